"""One job at a time in a run directory."""

import fcntl
import os
import socket
from pathlib import Path

import pytest

from src.config import UserError
from src.run import lock
from src.run import run as run
from tests.helpers.short_runs import job


def test_two_jobs_on_one_run(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.2)
    job(small, tmp_path, "train.epochs=2")
    handle = os.open(tmp_path / "runs" / "r" / "lock", os.O_RDWR)
    assert b"pid" in os.pread(handle, 100, 0), "a lock left by a dead process does not block, and says whose it was"
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.set_inheritable(handle, False)
    refused = job(small, tmp_path, fails=True)
    os.close(handle)
    assert refused.codes == [2, 2]
    assert "is in use by host " in refused.output
    assert "resumed at step 32" in job(small, tmp_path).output


def test_the_holder_is_named_as_long_as_it_lives(tmp_path: Path) -> None:
    assert lock.holder(tmp_path) == "", "nobody has been here"
    handle = lock.hold(tmp_path)
    assert lock.holder(tmp_path) == f"host {socket.gethostname()}, pid {os.getpid()}"
    os.close(handle)
    assert lock.holder(tmp_path) == ""


def test_a_lock_that_is_released_in_time_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that was told to leave needs a moment to save."""
    handle = lock.hold(tmp_path)
    waits: list[float] = []

    def release(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            os.close(handle)

    monkeypatch.setattr("time.sleep", release)
    os.close(lock.hold(tmp_path))
    assert len(waits) == 3


def test_a_lock_that_is_not_released_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.0)
    handle = lock.hold(tmp_path)
    with pytest.raises(UserError, match=rf"is in use by host .*, pid {os.getpid()}; wait, stop it, or give run.name="):
        lock.hold(tmp_path)
    os.close(handle)
