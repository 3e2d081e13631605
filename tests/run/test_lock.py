"""One job at a time in a run directory."""

import os
from pathlib import Path

from src.run import lock
from src.run import run as run
from tests.helpers.short_runs import job


def test_two_jobs_on_one_run(small: str, tmp_path: Path) -> None:
    import fcntl

    job(small, tmp_path, "train.epochs=2")
    handle = os.open(tmp_path / "runs" / "r" / "lock", os.O_RDWR)
    assert b"pid" in os.pread(handle, 100, 0), "a lock left by a dead process does not block, and says whose it was"
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.set_inheritable(handle, False)
    refused = job(small, tmp_path, fails=True)
    os.close(handle)
    assert refused.codes == [2, 2]
    assert "is in use by host " in refused.output
    assert lock.LOCK_SECONDS < 10
    assert "resumed at step 32" in job(small, tmp_path).output
