"""The temporary folder of a process: nothing is left in TMPDIR by any end, and after a kill by the next start."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from src import temporary
from tests.helpers.ranks import ROOT, fork

LEAVE = "import tempfile, pathlib; pathlib.Path(tempfile.mkdtemp(), 'picture.png').write_bytes(bytes(9)); "
START = "import os, signal; from src import interrupts, leaving; signal.signal(signal.SIGHUP, signal.SIG_DFL); "
START += "interrupts.exit_on_signal(); " + LEAVE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What TMPDIR names for the processes of a test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "t").mkdir()
    return tmp_path / "t"


def python(code: str) -> int:
    done = subprocess.run([sys.executable, "-c", START + code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert "Traceback" not in done.stderr
    return done.returncode


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("leaving.leave(3)", 3),
        ("leaving.end_now(4)", 4),
        ("raise SystemExit(5)", 5),
        *((f"os.kill(os.getpid(), {n:d}); signal.pause()", -n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)),
    ],
)
def test_nothing_is_left_by_an_end_that_can_be_caught(code: str, ended: int, folder: Path) -> None:
    code = (
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); interrupts._listener = None; interrupts.exit_on_signal(); "
        + code
    )
    assert python(code) == ended
    assert list(folder.iterdir()) == []


def test_what_a_kill_leaves_is_removed_by_the_next_start(folder: Path) -> None:
    assert python("os.kill(os.getpid(), signal.SIGKILL)") == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert [file.name for file in left.glob("*/*")] == ["picture.png"]
    assert python("leaving.leave(0)") == 0
    assert list(folder.iterdir()) == []


def test_only_folders_of_dead_processes_are_removed(folder: Path) -> None:
    """Not that of a process that runs, nor one that somebody else has named so."""
    theirs = folder / f"{temporary.PREFIX}images"
    theirs.mkdir()
    (theirs / "image.png").touch()

    def work() -> str:
        temporary.begin()
        (Path(os.environ["TMPDIR"]) / "mine").touch()
        assert python("leaving.leave(0)") == 0
        return " ".join(sorted(file.name for file in Path(os.environ["TMPDIR"]).iterdir()))

    assert fork(1, work, folder.parent).values == [f"{temporary.LOCK} mine"]
    assert (theirs / "image.png").exists()


def test_a_folder_that_is_removed_before_it_is_locked_is_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another process that starts at this moment, and takes it for an orphan."""
    removed: list[Path] = []
    original = fcntl.flock

    def flock(handle: int, operation: int) -> None:
        if not removed:
            removed.append(Path(os.readlink(f"/proc/self/fd/{handle}")).parent)
            shutil.rmtree(removed[0])
        original(handle, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    made = temporary._make(folder)
    assert made.is_dir()
    assert removed[0] != made


def test_a_child_s_folder_is_beside_its_parent_s(folder: Path) -> None:
    def work() -> bool:
        temporary.begin()
        mine = Path(tempfile.gettempdir())
        child = subprocess.run(
            [sys.executable, "-c", START + "print(tempfile.gettempdir())"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        return Path(child.stdout.strip()).parent == mine.parent == folder

    assert fork(1, work, folder.parent).values == [True]


def test_what_torchrun_leaves_for_an_error_that_did_not_come_goes_with_the_last_rank(folder: Path) -> None:
    attempt = folder / "torchelastic_x" / "run_y" / "attempt_0"
    for rank in (0, 1):
        (attempt / str(rank)).mkdir(parents=True)

    def leave(rank: int) -> None:
        os.environ["TORCHELASTIC_ERROR_FILE"] = str(attempt / str(rank) / "error.json")
        temporary.end()

    assert fork(1, lambda: leave(0), folder.parent).codes == [0]
    assert [rank.name for rank in attempt.iterdir()] == ["1"]
    (attempt / "1" / "error.json").touch()
    assert fork(1, lambda: leave(1), folder.parent).codes == [0]
    assert (attempt / "1" / "error.json").exists(), "torchrun has not read it yet"
    (attempt / "1" / "error.json").unlink()
    assert fork(1, lambda: leave(1), folder.parent).codes == [0]
    assert list(folder.iterdir()) == []


def test_no_folder_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def nowhere(*_: object, **__: object) -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert fork(1, temporary.begin, tmp_path).codes == [0]
