"""Standard output and error: whatever happens to a terminal, a pipe or a log, the training goes on to the same end."""

import fcntl
import io
import os
import pty
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src import streams, train
from src.errors import OutputLost
from src.run import layout
from tests.helpers.commands import Command
from tests.helpers.ranks import good_job

SETTINGS = ("model.name=logistic", "data.name=idx", "train.epochs=2", "track.wandb=disabled", "log.every=1")
Handles = list[int]


def onto(handle: int, *numbers: int) -> None:
    for number in numbers:
        os.dup2(handle, number)


def close_output() -> None:
    """>&- 2>&-, as Python finds it."""
    os.close(1)
    os.close(2)
    sys.stdout = sys.stderr = None


def close_all() -> None:
    os.close(0)
    sys.stdin = None
    close_output()


def fill_disk() -> None:
    onto(os.open("/dev/full", os.O_WRONLY), 1, 2)


def lose_reader() -> None:
    """| true"""
    reading, writing = os.pipe()
    os.close(reading)
    onto(writing, 1, 2)


def lose_terminal() -> None:
    """A terminal whose other end is closed."""
    other, terminal = pty.openpty()
    os.environ["TERM"] = "xterm"
    os.close(other)
    onto(terminal, 1, 2)


def full(non_blocking: bool = False) -> None:
    """A pipe that nobody reads."""
    _, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writing, False)
    os.write(writing, bytes(4096))
    os.set_blocking(writing, not non_blocking)
    onto(writing, 1, 2)


def full_non_blocking() -> None:
    """The same, whose other users have made it non-blocking."""
    full(non_blocking=True)


def held_terminal() -> None:
    """Ctrl-S on a terminal that nobody reads."""
    _, terminal = pty.openpty()
    os.environ["TERM"] = "xterm"
    onto(terminal, 1, 2)


def only_ascii() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="ascii", errors="strict")  # type: ignore[union-attr]


TROUBLES: list[Callable[[], None]] = [
    *(close_output, close_all, fill_disk, lose_reader, lose_terminal, full, held_terminal, only_ascii),
    full_non_blocking,
]


@pytest.fixture(scope="module")
def expected(small: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of the weights of a run that nothing happens to."""
    done = good_job(1, tmp_path_factory.mktemp("whole"), *SETTINGS, f"data.root={small}")
    return str(layout.read_status(done.run)["weights_sha256"])


@pytest.mark.parametrize(
    "trouble", TROUBLES, ids=lambda trouble: trouble.__name__.replace("<lambda>", "full, O_NONBLOCK")
)
def test_a_training_goes_on_to_the_same_end(
    trouble: Callable[[], None], expected: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LAST_SECONDS", 0.5)
    settings = [*SETTINGS, f"data.root={small}", f"run.root={tmp_path}", "run.name=caf\u00e9", "log.seconds=0"]
    done = Command(train.main, settings, dict(os.environ), tmp_path / "out", before=trouble).wait()
    assert done.returncode == 0, done.stderr
    status = layout.read_status(tmp_path / "caf\u00e9")
    assert (status["state"], status["weights_sha256"]) == ("finished", expected)
    if trouble is only_ascii:
        assert "caf\\xe9 (new)" in done.stdout


def test_no_file_is_opened_under_a_closed_descriptor_s_number(small: str, tmp_path: Path) -> None:
    """What is printed later would land in it."""

    def main() -> None:
        found.write_text(str([stat.S_ISCHR(os.fstat(number).st_mode) for number in range(3)]))
        print("nowhere", file=sys.stderr)

    found = tmp_path / "found"
    assert Command(main, [], dict(os.environ), tmp_path / "out", before=close_all).wait().returncode == 0
    assert found.read_text() == "[True, True, True]"


def printing(folder: Path, trouble: Callable[[], None]) -> "tuple[int, str]":
    """(exit code, stderr) of a command that prints a thousand lines."""

    def main() -> None:
        from src.console import one_line_errors

        with one_line_errors():
            for number in range(1000):
                print("line", number)

    done = Command(main, [], dict(os.environ), folder, before=trouble).wait()
    return done.returncode, done.stderr


def test_a_command_whose_output_is_lost_says_so(tmp_path: Path) -> None:
    """What a command prints is what it is for: a full disk is an error, a reader that leaves is not worth a word."""

    def fill() -> None:
        onto(os.open("/dev/full", os.O_WRONLY), 1)

    def lose() -> None:
        reading, writing = os.pipe()
        os.close(reading)
        onto(writing, 1)

    assert printing(tmp_path / "full", fill) == (
        1,
        "error: the output cannot be written (No space left on device)\n",
    )
    assert printing(tmp_path / "lost", lose) == (141, "")


def test_a_slow_reader_gets_every_line_in_order() -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    output = streams.Forgiving(1)
    output._handle = writing
    lines = [f"line {number}\n".encode() for number in range(1500)]
    received: list[bytes] = []

    def read() -> None:
        time.sleep(1)
        while data := os.read(reading, 300):
            received.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    for line in lines:
        output.write(line)
    output.settle()
    os.close(writing)
    reader.join()
    os.close(reading)
    assert b"".join(received) == b"".join(lines)


def test_a_fork_prints_too(tmp_path: Path) -> None:
    """Its parent's thread is not there."""

    def main() -> None:
        print("parent", file=sys.stderr)
        if os.fork() == 0:
            print("child", file=sys.stderr)
            streams.settle()
            os._exit(0)
        os.wait()

    assert Command(main, [], dict(os.environ), tmp_path).wait().stderr == "parent\nchild\n"


def test_somebody_else_s_stream_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = io.StringIO()
    monkeypatch.setattr(sys, "stdout", theirs)
    monkeypatch.setattr(sys, "stderr", theirs)
    streams.guard()
    assert sys.stdout is theirs


def test_output_is_written_whole_or_lost() -> None:
    with pytest.raises(OutputLost) as lost:
        streams.Output(os.open("/dev/full", os.O_WRONLY)).write(b"x")
    assert "No space left" in str(lost.value)
