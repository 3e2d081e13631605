"""How a process ends: at once and whole, unless somebody watches it."""

import cProfile
import os
import pstats
import subprocess
import sys
from pathlib import Path

import pytest

from src import leaving
from tests.helpers.ranks import ROOT, fork

FINISHED = "import atexit; atexit.register(print, 'the end'); "


def python(*arguments: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *arguments]
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        input=stdin,
        env=os.environ | environment,
    )


def settings(small: str, folder: Path) -> list[str]:
    fixed = ["model.name=logistic", "data.name=idx", f"data.root={small}", f"run.root={folder}", "run.name=r"]
    return [*fixed, "train.epochs=1", "track.wandb=disabled"]


def test_a_profiler_writes_its_output(small: str, tmp_path: Path) -> None:
    file = tmp_path / "profile"
    done = python("-m", "cProfile", "-o", str(file), "-m", "src.train", *settings(small, tmp_path))
    assert done.returncode == 0, done.stderr
    assert any("forward_backward" in name for _, _, name in pstats.Stats(str(file)).stats)  # type: ignore[attr-defined]


def test_a_debugger_goes_on_after_the_end(small: str, tmp_path: Path) -> None:
    done = python("-m", "pdb", "-c", "continue", "-m", "src.train", *settings(small, tmp_path), stdin="quit\n")
    assert "The program finished and will be restarted" in done.stdout, done.stdout + done.stderr


def test_a_tracer_that_python_starts_is_seen(small: str, tmp_path: Path) -> None:
    """As coverage does with its .pth file: from the start, and with the end of Python."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\nsys.setprofile(lambda *_: None)\natexit.register(print, 'written')\n"
    )
    done = python("-m", "src.status", str(tmp_path), PYTHONPATH=str(tmp_path))
    assert done.stdout.endswith("no runs yet\nwritten\n"), done.stdout + done.stderr


@pytest.mark.parametrize("watched", [False, True])
def test_somebody_watches(watched: bool, tmp_path: Path) -> None:
    def work() -> bool:
        if watched:
            cProfile.Profile().enable()
        return leaving.somebody_watches(None)

    assert fork(1, work, tmp_path).values == [watched]
    assert leaving.somebody_watches(sys._getframe()), "this is pytest's process"


def test_what_was_registered_for_the_end_is_called(tmp_path: Path) -> None:
    done = python("-c", FINISHED + "from src import leaving; leaving.leave(5)")
    assert (done.returncode, done.stdout) == (5, "the end\n")


def test_an_end_that_takes_for_ever_is_cut_short(tmp_path: Path) -> None:
    code = "import atexit, time; from src import leaving; leaving.LEAVE_SECONDS = 0.2; "
    done = python("-c", code + "atexit.register(time.sleep, 100); leaving.leave(6)")
    assert done.returncode == 6


@pytest.mark.parametrize(
    ("end", "code", "printed"), [("3", 3, ""), ("None", 0, ""), ("'no such thing'", 1, "no such thing\n")]
)
def test_the_exit_code_is_python_s(end: str, code: int, printed: str) -> None:
    done = python("-c", f"from src import leaving; leaving.leave(leaving.exit_code(lambda: exit({end})))")
    assert (done.returncode, done.stderr) == (code, printed)
