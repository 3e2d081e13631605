"""Summing through memory that the ranks of one host share: some 5 microseconds of work, no socket.

One file in /dev/shm that never has a name (O_TMPFILE), so that nothing stays behind whoever dies and when:

    flags    one 64-bit counter per rank, each on a cache line of its own
    scalars  2 sets x slots x SCALARS doubles
    data     2 sets x slots x CAPACITY bytes

In round r a rank writes its slots of set r % 2, then raises its flag to r, waits until every flag is at
least r, and adds all slots in slot order. Two sets are enough: a rank that writes round r + 2 has seen all flags at
r + 1, and a rank raises that one only after it has read round r. The flag may be seen only after the data
it stands for, which plain stores guarantee on x86-64 and not elsewhere.
"""

import mmap
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from src.errors import PeerLost
from src.gradients.peers import Peers
from src.gradients.step import SCALARS
from src.world.world import World

CAPACITY = 1 << 20  # bytes per slot; more goes through in several rounds
CACHE_LINE = 64
FOLDER = Path("/dev/shm")

YIELDS = 2000  # a step is over sooner; then a waiting rank sleeps rather than burn a core
SLEEP_SECONDS = 0.0001
LONGEST_REST_SECONDS = 0.1  # what is longer was a suspension of this process, which says nothing about the others


class Unavailable(RuntimeError):
    """The ranks cannot share memory; raised on all of them, with the reason."""


def objection(world: World) -> str:
    """Why these ranks cannot exchange through shared memory, or ''; the same on all ranks."""
    if world.device.type != "cpu":
        return "the ranks train on GPUs"
    if not world.one_host:
        return "the ranks are on several hosts"
    mine = (platform.machine(), _namespace(), FOLDER.is_dir())
    if any(other != mine for other in world.all_gather(mine)):
        return "the ranks are in different containers"
    if mine[0] != "x86_64" or sys.platform != "linux":
        return f"the processor is {mine[0]}, not x86-64 under Linux"
    return "" if mine[1] and mine[2] else f"there is no {FOLDER if mine[1] else '/proc'}"


def size(world_size: int, slots: int) -> int:
    """Bytes of /dev/shm that the ranks take."""
    return _offsets(world_size, slots)[1] + 2 * slots * CAPACITY


def _offsets(world_size: int, slots: int) -> tuple[int, int]:
    """Where the scalars and the data begin."""
    scalars_at = _pages(world_size * CACHE_LINE)
    return scalars_at, scalars_at + _pages(2 * slots * SCALARS * 8)


def _namespace() -> str:
    """Names the process name space, inside which pids mean the same to all."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


class SharedMemory:
    """Adds `slots` tensors that the ranks hold between them; `local` are this rank's slots.

    Every rank must make it at the same time and call `sum` equally often with equally long tensors.
    Raises Unavailable, on all ranks alike.
    """

    name = "shared memory"

    def __init__(self, world: World, slots: int, local: range, timeout: float) -> None:
        self._rank, self._slots, self._local, self._timeout = world.rank, slots, local, timeout
        self._others = [rank for rank in range(world.size) if rank != world.rank]
        self._memory = _share(world, size(world.size, slots))
        view = memoryview(self._memory)
        scalars_at, data_at = _offsets(world.size, slots)
        self._flags = view[:scalars_at].cast("q")
        self._scalars = view[scalars_at:data_at].cast("d")
        self._data = torch.frombuffer(self._memory, dtype=torch.uint8, offset=data_at).view(2, slots, CAPACITY)
        self._views: dict[tuple[int, int, torch.dtype], list[Tensor]] = {}
        self._peers = Peers(world)
        self._round = 0
        self.waited = 0.0  # seconds that this rank has waited for others

    def sum(self, mine: Sequence[Tensor], scalars: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """Write into `total` the sum of all slots, added in slot order; return the sums of the scalars.

        `mine` holds the flat tensors (n,) of this rank's slots, `scalars` SCALARS numbers for each, `total`
        is (n,) too and may be one of them. Raises PeerLost.
        """
        size = CAPACITY // total.element_size()
        for start in range(0, total.numel(), size):
            last = start + size >= total.numel()
            self._exchange([part[start : start + size] for part in mine] if size < total.numel() else mine, scalars)
            self._add(total[start : start + size] if size < total.numel() else total)
            if last:
                break
        return self._sum_scalars()

    def _exchange(self, mine: Sequence[Tensor], scalars: Sequence[Sequence[float]]) -> None:
        self._round += 1
        side = self._round & 1
        views = self._slot_views(side, mine[0].numel(), mine[0].dtype) if mine else []
        for slot, tensor, numbers in zip(self._local, mine, scalars, strict=True):
            views[slot].copy_(tensor)
            at = (side * self._slots + slot) * SCALARS
            for offset, value in enumerate(numbers):
                self._scalars[at + offset] = value
        self._flags[self._rank * (CACHE_LINE // 8)] = self._round
        self._wait()

    def _slot_views(self, side: int, length: int, dtype: torch.dtype) -> list[Tensor]:
        """The slots of a side as tensors (length,); kept, for making them takes as long as adding them."""
        views = self._views.get((side, length, dtype))
        if views is None:
            views = [slot.view(dtype)[:length] for slot in self._data[side]]
            self._views[side, length, dtype] = views
        return views

    def _add(self, total: Tensor) -> None:
        first, *rest = self._slot_views(self._round & 1, total.numel(), total.dtype)
        total.copy_(first)
        for slot in rest:
            total.add_(slot)

    def _sum_scalars(self) -> list[float]:
        start = (self._round & 1) * self._slots * SCALARS
        values = self._scalars[start : start + self._slots * SCALARS].tolist()
        return [sum(values[at::SCALARS]) for at in range(SCALARS)]

    def _wait(self) -> None:
        flags, due, line = self._flags, self._round, CACHE_LINE // 8
        began, patience = time.perf_counter(), self._timeout
        for rank in self._others:
            at, turns = rank * line, 0
            while flags[at] < due:
                turns += 1
                if turns < YIELDS:
                    os.sched_yield()
                else:
                    patience -= self._rest(rank, patience)
        self.waited += time.perf_counter() - began

    def _rest(self, rank: int, patience: float) -> float:
        """Sleep; returns for how many seconds. Raises PeerLost if the rank died, or if no patience is left."""
        began = time.perf_counter()
        time.sleep(SLEEP_SECONDS)
        self._peers.look()
        if patience > 0:
            return min(time.perf_counter() - began, LONGEST_REST_SECONDS)
        raise PeerLost(f"rank {rank} did not come within {self._timeout:.0f} s{self._peers.state(rank)}")


def _share(world: World, size: int) -> mmap.mmap:
    """Map one new file of `size` bytes on all ranks; the others find rank 0's through /proc."""
    handle, memory, problem = -1, None, ""
    if world.rank == 0:
        handle, problem = _create(size)
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


def _create(size: int) -> tuple[int, str]:
    """(descriptor of a file without a name, what went wrong)."""
    handle = -1
    try:
        handle = os.open(FOLDER, os.O_RDWR | os.O_TMPFILE, 0o600)
        os.posix_fallocate(handle, 0, size)  # a full /dev/shm is known here, and is no SIGBUS in a step
    except OSError as error:
        return handle, f"{FOLDER} does not take {-(-size // 2**20)} MB: {error.strerror}"
    return handle, ""


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
