"""Summing through memory that the ranks of one host share: some 5 microseconds of work, no socket.

One file in /dev/shm that never has a name (O_TMPFILE), so that nothing stays behind whoever dies and when:

    flags    one 64-bit counter per rank, each on a cache line of its own
    scalars  2 sides x blocks x SCALARS doubles
    data     2 sides x blocks x capacity bytes

To meet, a rank raises its flag and waits until every flag is as high. In a turn a rank writes its blocks of one
side, meets the others, and adds all blocks in the order of the tree. Where they are large, each rank is the owner of
a range: it adds that of all blocks, in place, meets the others again, and takes the whole sum; so the bytes that a
rank reads do not grow with the number of ranks. Turns use the two sides alternately: a rank that writes a side again
has met all others in the turn between, which they begin only when they have read that side. The flag may be seen
only after the data it stands for, which plain stores guarantee on x86-64 and not elsewhere.
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
from src.gradients.exchange import SMALL
from src.gradients.peers import Peers
from src.gradients.step import SCALARS
from src.gradients.tree import Tree
from src.world.world import World

CAPACITY = 1 << 20  # bytes per block, at most; more goes through in several turns
MOST = 48 << 20  # bytes of data: a container has 64 MB of /dev/shm, if nobody asks for more
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


def capacity(blocks: int) -> int:
    """Bytes of a block that go through in one turn: whole pages."""
    return max(mmap.PAGESIZE, min(CAPACITY, MOST // (2 * blocks) // mmap.PAGESIZE * mmap.PAGESIZE))


def size(world_size: int, blocks: int) -> int:
    """Bytes of /dev/shm that the ranks take."""
    return _offsets(world_size, blocks)[1] + 2 * blocks * capacity(blocks)


def _offsets(world_size: int, blocks: int) -> tuple[int, int]:
    """Where the scalars and the data begin."""
    scalars_at = _pages(world_size * CACHE_LINE)
    return scalars_at, scalars_at + _pages(2 * blocks * SCALARS * 8)


def _namespace() -> str:
    """Names the process name space, inside which pids mean the same to all."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


class SharedMemory:
    """Adds the blocks of a tree that the ranks hold between them.

    Every rank must make it at the same time and call `sum` equally often with equally long tensors.
    Raises Unavailable, on all ranks alike.
    """

    name = "shared memory"

    def __init__(self, world: World, tree: Tree, timeout: float) -> None:
        self._rank, self._ranks, self._tree, self._timeout = world.rank, world.size, tree, timeout
        self._others = [rank for rank in range(world.size) if rank != world.rank]
        self._blocks, self._mine = len(tree.blocks), tree.blocks_of[world.rank]
        self._capacity = capacity(self._blocks)
        self._memory = _share(world, size(world.size, self._blocks))
        view = memoryview(self._memory)
        scalars_at, data_at = _offsets(world.size, self._blocks)
        self._flags = view[:scalars_at].cast("q")
        self._scalars = view[scalars_at:data_at].cast("d")
        data = torch.frombuffer(self._memory, dtype=torch.uint8, offset=data_at)
        self._data = data[: 2 * self._blocks * self._capacity].view(2, self._blocks, self._capacity)
        self._views: dict[tuple[int, int, torch.dtype], list[Tensor]] = {}
        self._sums: dict[tuple[int, int, torch.dtype], Tensor] = {}
        self._peers = Peers(world)
        self._turn, self._meetings = 0, 0
        self.waited = 0.0  # seconds that this rank has waited for others

    def sum(self, blocks: Sequence[Tensor], scalars: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See Exchange.sum."""
        if total.numel() * total.element_size() * self._blocks <= SMALL:
            self._write(blocks, scalars)
            self._meet()
            self._add_all(total)
            return self._sum_scalars()
        length = self._capacity // total.element_size()
        for start in range(0, total.numel(), length):
            self._write([block[start : start + length] for block in blocks], scalars)
            self._add_range(total[start : start + length])
        return self._sum_scalars()

    def _write(self, blocks: Sequence[Tensor], scalars: Sequence[Sequence[float]]) -> None:
        self._turn += 1
        side = self._turn & 1
        views = self._side(blocks[0].numel(), blocks[0].dtype)
        for position, block, numbers in zip(self._mine, blocks, scalars, strict=True):
            views[position].copy_(block)
            at = (side * self._blocks + position) * SCALARS
            for offset, value in enumerate(numbers):
                self._scalars[at + offset] = value

    def _side(self, length: int, dtype: torch.dtype) -> list[Tensor]:
        """The blocks of the turn's side as tensors (length,); kept, for making them takes as long as adding them."""
        side = self._turn & 1
        views = self._views.get((side, length, dtype))
        if views is None:
            views = [block.view(dtype)[:length] for block in self._data[side]]
            self._views[side, length, dtype] = views
        return views

    def _add_all(self, total: Tensor) -> None:
        """Every rank adds everything; the blocks are the others' too, so that each sum has a place of its own."""
        values = list(self._side(total.numel(), total.dtype))
        for into, other in self._tree.additions:
            place = total if into == 0 else self._place(into, total)
            values[into] = torch.add(values[into], values[other], out=place)

    def _place(self, position: int, like: Tensor) -> Tensor:
        key = (position, like.numel(), like.dtype)
        if key not in self._sums:
            self._sums[key] = torch.empty_like(like)
        return self._sums[key]

    def _add_range(self, total: Tensor) -> None:
        """Every rank adds the range that it owns, in place, and then takes the whole sum."""
        blocks, length = self._side(total.numel(), total.dtype), total.numel()
        line = CACHE_LINE // total.element_size()
        start, end = (min(length, length * rank // self._ranks // line * line) for rank in (self._rank, self._rank + 1))
        end = length if self._rank + 1 == self._ranks else end
        self._meet()
        for into, other in self._tree.additions:
            blocks[into][start:end].add_(blocks[other][start:end])
        self._meet()
        total.copy_(blocks[0])

    def _sum_scalars(self) -> list[float]:
        start = (self._turn & 1) * self._blocks * SCALARS
        values: list[float] = list(self._scalars[start : start + self._blocks * SCALARS])
        return self._tree.sum([values[at : at + SCALARS] for at in range(0, len(values), SCALARS)])

    def _meet(self) -> None:
        """Return when all ranks are here; what they wrote before can be read."""
        self._meetings += 1
        self._flags[self._rank * (CACHE_LINE // 8)] = self._meetings
        flags, due, line = self._flags, self._meetings, CACHE_LINE // 8
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
