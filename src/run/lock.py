"""Who holds a run directory: one job at a time, for as long as its process lives."""

import fcntl
import os
import socket
import time
from pathlib import Path

from src.errors import UserError

LOCK_SECONDS = 5.0  # a rank that was signalled needs a moment to save


def holder(path: Path) -> str:
    """Which process holds the run directory now ("host h, pid p"), '' if none does."""
    try:
        handle = os.open(path / "lock", os.O_RDONLY)
    except OSError:
        return ""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return ""
    except BlockingIOError:
        return os.pread(handle, 200, 0).decode() or "another process"
    finally:
        os.close(handle)


def hold(path: Path) -> int:
    """Lock the directory for as long as this process lives; raise UserError naming who holds it."""
    handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(handle, 200, 0).decode() or "another process"
                os.close(handle)
                raise UserError(f"{path}: is in use by {holder}", fix="wait, stop it, or give run.name=") from None
            time.sleep(0.1)
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"host {socket.gethostname()}, pid {os.getpid()}".encode(), 0)
    return handle
