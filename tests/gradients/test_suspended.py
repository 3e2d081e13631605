"""A job whose ranks are all suspended for longer than the timeout (scontrol suspend, Ctrl-Z) has lost nobody.

Over gloo it has: gloo itself counts the seconds of a suspension.
"""

import os
import signal
import time
from pathlib import Path

import pytest

from src.interrupts import Interrupts
from src.run import layout
from src.run.layout import State
from tests.helpers.ranks import run_job

TIMEOUT_SECONDS = 5  # the start takes as long on a busy machine
SETTINGS = ("data.name=idx", "run.name=r", "train.epochs=20", f"train.timeout_seconds={TIMEOUT_SECONDS}")


@pytest.mark.slow(seconds=15)
def test_a_suspended_job_goes_on(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, votes = Interrupts.vote, [0]

    def vote(self: Interrupts) -> float:
        votes[0] += 1
        if votes[0] == 20:
            (tmp_path / os.environ["RANK"]).write_text(str(os.getpid()))
        if votes[0] == 100 and os.environ["RANK"] == "0":
            suspend([int((tmp_path / rank).read_text()) for rank in "01"])
        return original(self)

    monkeypatch.setattr(Interrupts, "vote", vote)
    job = run_job(2, tmp_path, *SETTINGS, f"data.root={small}", "train.exchange=shared_memory")
    assert job.codes == [0, 0], job.output
    assert layout.read_status(tmp_path / "runs" / "r")["state"] == State.FINISHED


def suspend(pids: list[int]) -> None:
    """Another process stops these, this one among them, and lets the last continue 0.5 s after the first."""
    if os.fork() == 0:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2 * TIMEOUT_SECONDS)
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.5)
        os._exit(0)
    time.sleep(0.1)  # rank 1 waits in the exchange when it is stopped
