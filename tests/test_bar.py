"""The bar: at any width the numbers come first, and nothing of it is left behind."""

import io
import itertools

import pytest

from src import bar
from src.bar import Bar, Reading

READING = Reading(
    epoch=3, epochs=10, step_in_epoch=500, steps_per_epoch=938, loss=0.21234, rate=61812.4, left=13.2
)  # fmt: skip


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("columns", range(1, 200))
def test_it_is_never_wider_than_the_terminal(columns: int) -> None:
    assert len(bar.line(READING, columns)) <= columns


def test_the_numbers_come_first_at_any_width() -> None:
    wide, usual, narrow = (bar.line(READING, columns - 1) for columns in (120, 80, 40))
    everything = "epoch  3/10  step 500/938  loss 0.2123  61,812 samples/s  0:00:13 left"
    assert wide.startswith(everything + "  ###")
    assert usual == everything + "  ##-----"
    assert narrow == "epoch 3/10  loss 0.2123  61,812/s  #----"[: len(narrow)]
    for text in ("3/10", "0.2123", "61,812"):
        assert text in narrow
    assert bar.line(READING, 4) == "3/10"
    assert bar.line(READING, 3) == ""


def test_fewer_columns_never_show_more() -> None:
    lengths = [len(bar.line(READING, columns).rstrip("#-").rstrip()) for columns in range(1, 150)]
    assert all(after >= before for before, after in itertools.pairwise(lengths))


def test_it_is_drawn_over_and_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar, "PAUSE_SECONDS", 0)
    screen = Terminal()
    drawn = Bar(screen)
    drawn.show(READING)
    drawn.print("epoch  3/10  test")
    drawn.clear()
    drawn.clear()
    frames = screen.getvalue().split("\r\x1b[K")
    assert frames[1].endswith("\u2588\u2588\u2591\u2591\u2591\u2591\u2591")
    assert frames[2] == f"epoch  3/10  test\n{frames[1]}"
    assert frames[3:] == [""]


def test_a_dumb_terminal_and_a_file_have_lines_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert bar.has_bar(Terminal())
    assert not bar.has_bar(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not bar.has_bar(Terminal())
    monkeypatch.delenv("TERM")
    assert not bar.has_bar(Terminal())


def test_an_encoding_without_blocks_has_signs() -> None:
    screen = Terminal()
    screen.encoding = "ascii"
    Bar(screen).show(READING)
    assert screen.getvalue().isascii()
