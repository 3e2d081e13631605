"""launch.torchrun and the signals of a terminal: the ranks save, nothing but one line is printed; nohup is obeyed."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from src.run import jsonl, layout
from tests.helpers.terminals import terminal


def command(small: str, folder: Path) -> list[str]:
    """Two ranks that train for long."""
    launcher = [sys.executable, "-m", "launch.torchrun", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    settings = ["model.name=logistic", "data.name=idx", f"data.root={small}", f"run.root={folder}", "run.name=r"]
    return [*launcher, "-m", "src.train", *settings, "train.epochs=9000", "track.wandb=disabled", "log.every=10"]


def reach(run: Path, goal: int) -> None:
    deadline = time.monotonic() + 120
    while max((line["step"] for line in jsonl.read(run / "metrics.jsonl")), default=0) < goal:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("key", ["ctrl-c", "closed"])
def test_ctrl_c_and_a_closed_terminal_save(key: str, small: str, tmp_path: Path) -> None:
    run = tmp_path / "r"
    with terminal(command(small, tmp_path), TMPDIR=str(tmp_path)) as (pid, screen):
        reach(run, 20)
        shown = ""
        if key == "ctrl-c":
            shown = screen.until_ctrl_c()
        else:
            screen.close()
        number = signal.SIGINT if key == "ctrl-c" else signal.SIGHUP
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + number
    assert "Traceback" not in shown
    status = layout.read_status(run)
    assert (status["state"], status["reason"]) == ("preempted", number.name)
    assert [file.name for file in tmp_path.iterdir()] == ["r"], "something is left in TMPDIR"


def test_under_nohup_it_goes_on(small: str, tmp_path: Path) -> None:
    run = tmp_path / "r"
    nohup = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "_"]
    with terminal([*nohup, *command(small, tmp_path)]) as (pid, screen):
        reach(run, 20)
        screen.close()
        reach(run, max(line["step"] for line in jsonl.read(run / "metrics.jsonl")) + 500)
        (run / layout.STOP).touch()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert layout.read_status(run)["reason"] == "STOP file"
