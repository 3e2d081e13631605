"""One job at a time in a run directory."""

import fcntl
import json
import os
import socket
from pathlib import Path

import pytest

from src.errors import TryAgain, UserError
from src.run import lock
from src.run import run as run
from src.world.processes import this_process
from tests.helpers.ranks import fork
from tests.helpers.short_runs import job


def test_two_jobs_on_one_run(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.2)
    monkeypatch.setattr(lock, "LOST_SECONDS", 0.5)
    job(small, tmp_path, "train.epochs=2")
    handle = os.open(tmp_path / "runs" / "r" / "lock", os.O_RDWR)
    assert b"pid" in os.pread(handle, 100, 0), "a lock left by a dead process does not block, and says whose it was"
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.set_inheritable(handle, False)
    refused = job(small, tmp_path, fails=True)
    os.close(handle)
    assert refused.codes == [75, 75], "its process is not the one that is named: perhaps one of a host that died"
    assert "is in use by host " in refused.output
    assert "waiting up to 0 s, as a file server keeps the lock of a host that died" in refused.output
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


def test_a_host_that_died_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file server keeps its lock for a while: that is said once, and the lock is taken when it is free."""
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.0)
    handle = lock.hold(tmp_path)
    said: list[str] = []
    waits: list[float] = []
    record = json.dumps({"namespace": "node7 pid:[1]", "pid": 1, "start": "5"})
    (tmp_path / "lock").write_text(f"host node7, pid 1\n{record}\n")

    def pause(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 5:
            os.close(handle)

    monkeypatch.setattr("time.sleep", pause)
    again = lock.hold(tmp_path, said.append)
    (line,) = said
    assert line.startswith(f"{tmp_path}: is in use by host node7, pid 1; waiting up to 150 s")
    (tmp_path / "lock").write_text(f"host node7, pid 1\n{record}\n")
    with pytest.raises(TryAgain, match="is in use by host node7"):
        lock.hold(tmp_path, said.append, stopped=lambda: True)
    os.close(again)


def test_a_process_without_a_lock_of_its_own_is_seen_by_its_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handle: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", fail)
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.2)
    said: list[str] = []
    os.close(lock.hold(tmp_path, said.append))
    assert len(said) == 1
    assert "has no locks (Operation not supported)" in said[0]
    assert lock.holder(tmp_path) == f"host {socket.gethostname()}, pid {os.getpid()}"
    assert lock.is_ours(tmp_path)

    def other() -> tuple[str, bool]:
        with pytest.raises(UserError) as error:
            lock.hold(tmp_path)
        return str(error.value), lock.is_ours(tmp_path)

    (tmp_path / "out").mkdir()
    (found,) = fork(1, other, tmp_path / "out").values
    assert found == (f"{tmp_path}: is in use by {lock.holder(tmp_path)}; wait, stop it, or give run.name=", False)
    record = {"namespace": this_process().namespace, "pid": 4_000_000, "start": "5"}
    (tmp_path / "lock").write_text(f"host {socket.gethostname()}, pid 4000000\n{json.dumps(record)}\n")
    assert lock.holder(tmp_path) == ""
    os.close(lock.hold(tmp_path))
