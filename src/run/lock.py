"""Who holds a run directory: one job at a time, for as long as its process lives.

The file `lock` has two lines: the process for people, and what tells whether it still lives on this host.
"""

import errno
import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from src import flock
from src.errors import TryAgain, UserError
from src.flock import NoLocks
from src.world.processes import Process, this_process

LOCK_SECONDS = 5.0  # a rank that was signalled needs a moment to save
LOST_SECONDS = 150.0  # a file server keeps the lock of a host that died for its lease, mostly 90 s
LOOK_SECONDS = 0.1


def holder(path: Path) -> str:
    """Which process holds the run directory now ("host h, pid p"), '' if none does.

    Where the file system has no locks, a process of another host cannot be known.
    """
    try:
        handle = os.open(path / "lock", os.O_RDONLY)
    except OSError:
        return ""
    try:
        name, process = _owner(handle)
        return "" if flock.take(handle, shared=True) else name
    except NoLocks:
        return name if _lives(process) else ""
    except OSError:
        return ""
    finally:
        os.close(handle)


def hold(path: Path, warn: Callable[[str], None] = lambda _: None, stopped: Callable[[], bool] = lambda: False) -> int:
    """Lock the directory for as long as this process lives; returns the lock's descriptor.

    Waits for a process that is about to leave, and longer for a host that may have died. Raises UserError naming the
    process of this host that holds it, TryAgain for one of another host or if `stopped` says so, and OSError.
    """
    handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _wait(path, handle, warn, stopped)
    except BaseException:
        os.close(handle)
        raise
    with suppress(OSError):  # a full disk: the lock holds without a name too
        os.ftruncate(handle, 0)
        name = f"host {socket.gethostname()}, pid {os.getpid()}"
        os.pwrite(handle, f"{name}\n{json.dumps(asdict(this_process()))}\n".encode(), 0)
    return handle


def is_ours(path: Path) -> bool:
    """Whether this process still holds the directory of this name, as far as its lock's file says."""
    try:
        handle = os.open(path / "lock", os.O_RDONLY)
    except OSError as error:
        return error.errno not in (errno.ENOENT, errno.ENOTDIR)  # a disk that does not answer says nothing
    process = _owner(handle)[1]
    os.close(handle)
    return process is None or process == this_process()


def _wait(path: Path, handle: int, warn: Callable[[str], None], stopped: Callable[[], bool]) -> None:
    began, reported = time.monotonic(), False
    while not _taken(path, handle, warn):
        waited, (name, process) = time.monotonic() - began, _owner(handle)
        if waited > LOCK_SECONDS and _lives(process):
            raise UserError(f"{path}: is in use by {name}", fix="wait, stop it, or give run.name=")
        if waited > LOST_SECONDS or stopped():
            raise TryAgain(f"{path}: is in use by {name}; wait, stop it, or give run.name=")
        if waited > LOCK_SECONDS and not reported:
            reported = True
            warn(
                f"{path}: is in use by {name}; waiting up to {LOST_SECONDS:.0f} s, "
                "as a file server keeps the lock of a host that died"
            )
        time.sleep(LOOK_SECONDS)


def _taken(path: Path, handle: int, warn: Callable[[str], None]) -> bool:
    """Whether this process holds the lock now, or may go on without one."""
    try:
        return flock.take(handle)
    except NoLocks as error:
        process = _owner(handle)[1]
        if process != this_process() and _lives(process):
            return False
        warn(f"{path}: this file system has no locks ({error}): start no second job on this run from another host")
        return True


def _owner(handle: int) -> tuple[str, Process | None]:
    """The process that wrote its name into the lock's file: for people, and to ask for its life if that is known."""
    try:
        name, _, facts = os.pread(handle, 1000, 0).decode(errors="replace").partition("\n")
    except OSError:
        return "another process", None
    try:
        return name or "another process", Process(**json.loads(facts))
    except (ValueError, TypeError):
        return name or "another process", None


def _lives(process: Process | None) -> bool:
    """Whether it is a process that this one can see, and it has not ended."""
    if process is None or not process.start:
        return False
    return process.namespace == this_process().namespace and not process.has_ended
