"""One file in /dev/shm that all ranks of a host map, and that never has a name: nothing stays behind, whoever dies."""

import mmap
import os
from pathlib import Path

from src.world.world import World

FOLDER = Path("/dev/shm")


class Unavailable(RuntimeError):
    """The ranks cannot share memory; raised on all of them, with the reason."""


def share(world: World, size: int, most: float = 1.0) -> mmap.mmap:
    """Map one new file of `size` bytes, at most that share of what is free, on all ranks. Raises Unavailable."""
    handle, memory, problem = -1, None, ""
    if world.rank == 0:
        handle, problem = _create(size, most)
    # The others find rank 0's file through /proc.
    address, hopeless = world.all_gather((f"/proc/{os.getpid()}/fd/{handle}", problem))[0]
    if not hopeless:
        try:
            handle = handle if world.rank == 0 else os.open(address, os.O_RDWR)
            memory = mmap.mmap(handle, size)
        except OSError as error:
            problem = f"rank {world.rank} cannot map it: {error.strerror}"
    problems = list(filter(None, world.all_gather(problem)))  # rank 0 holds the file open until all have mapped it
    if handle >= 0:
        os.close(handle)
    if problems or memory is None:
        raise Unavailable(problems[0])
    return memory


def _create(size: int, most: float) -> tuple[int, str]:
    """(descriptor of a file without a name, what went wrong)."""
    handle, megabytes = -1, -(-size // 2**20)
    try:
        room = os.statvfs(FOLDER)
        if most < 1 and size > most * room.f_bavail * room.f_frsize:
            return handle, f"{FOLDER} has no room to spare for {megabytes} MB"
        handle = os.open(FOLDER, os.O_RDWR | os.O_TMPFILE, 0o600)
        os.posix_fallocate(handle, 0, size)  # a full /dev/shm is known here, and is no SIGBUS in a step
    except OSError as error:
        return handle, f"{FOLDER} does not take {megabytes} MB: {error.strerror}"
    return handle, ""


def pages(size: int) -> int:
    """Bytes of so many whole pages as `size` bytes take."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
