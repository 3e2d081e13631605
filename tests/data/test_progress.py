"""How far a conversion is."""

import io
import sys

import pytest

from src import bar
from src.data import progress
from src.data.progress import Counted


def test_a_log_has_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    counted = Counted("converting", 1000, lines.append, done=400)
    counted(100)
    assert lines == []
    monkeypatch.setattr(progress, "SECONDS", -1.0)
    counted(100)
    assert lines[0].startswith("converting: 600 of 1,000, ")
    assert lines[0].endswith(" left")
    counted.end()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(bar, "PAUSE_SECONDS", 0)
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(bar.Bar, "_columns", lambda self: 100)
    lines: list[str] = []
    counted = Counted("converting", 10, lines.append)
    counted(5)
    counted.end()
    shown = screen.getvalue().split("\r\x1b[K")
    assert shown[1].startswith("converting: 5 of 10, ")
    assert shown[1].count("\u2588") == pytest.approx(shown[1].count("\u2591"), abs=1)
    assert (shown[2], lines) == ("", [])
