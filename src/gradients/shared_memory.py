"""Summing through memory that the ranks of one host share: some 5 microseconds of work, no socket.

    flags    of the meeting
    scalars  2 sides x blocks x SCALARS doubles
    notes    of a Board
    data     2 sides x blocks x capacity bytes

In a turn a rank writes its blocks of one side, meets the others, and adds all blocks in the order of the tree. Where
they are large, each rank is the owner of a range: it adds that of all blocks, in place, meets the others again, and
takes the whole sum; so the bytes that a rank reads do not grow with the number of ranks. Turns use the two sides
alternately: a rank that writes a side again has met all others in the turn between, which they begin only when they
have read that side. Gradients that are large are better off as a Resident, which nobody copies.
"""

import mmap
import os
import platform
import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from src.gradients import notes, shared_file
from src.gradients.exchange import SMALL
from src.gradients.meeting import CACHE_LINE, Meeting
from src.gradients.notes import Board
from src.gradients.resident import Resident
from src.gradients.shared_file import Unavailable, pages, share
from src.gradients.step import SCALARS
from src.gradients.tree import Tree
from src.world.world import World

CAPACITY = 1 << 20  # bytes per block, at most; more goes through in several turns
MOST = 48 << 20  # bytes of data: a container has 64 MB of /dev/shm, if nobody asks for more


def objection(world: World) -> str:
    """Why these ranks cannot exchange through shared memory, or ''; the same on all ranks."""
    if world.device.type != "cpu":
        return "the ranks train on GPUs"
    if not world.one_host:
        return "the ranks are on several hosts"
    mine = (platform.machine(), _namespace(), shared_file.FOLDER.is_dir())
    if any(other != mine for other in world.all_gather(mine)):
        return "the ranks are in different containers"
    if mine[0] != "x86_64" or sys.platform != "linux":
        return f"the processor is {mine[0]}, not x86-64 under Linux"
    return "" if mine[1] and mine[2] else f"there is no {shared_file.FOLDER if mine[1] else '/proc'}"


def capacity(blocks: int) -> int:
    """Bytes of a block that go through in one turn: whole pages."""
    return max(mmap.PAGESIZE, min(CAPACITY, MOST // (2 * blocks) // mmap.PAGESIZE * mmap.PAGESIZE))


def size(world_size: int, blocks: int) -> int:
    """Bytes of /dev/shm that the ranks take."""
    return _offsets(world_size, blocks)[2] + 2 * blocks * capacity(blocks)


def _offsets(world_size: int, blocks: int) -> tuple[int, int, int]:
    """Where the scalars, the notes and the data begin."""
    scalars_at = pages(world_size * CACHE_LINE)
    notes_at = scalars_at + pages(2 * blocks * SCALARS * 8)
    return scalars_at, notes_at, notes_at + pages(notes.size(world_size))


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

    def __init__(self, world: World, tree: Tree, timeout: float) -> None:
        self._world, self._rank, self._ranks, self._tree = world, world.rank, world.size, tree
        self._blocks, self._mine = len(tree.blocks), tree.blocks_of[world.rank]
        self._capacity = capacity(self._blocks)
        memory = share(world, size(world.size, self._blocks))
        view = memoryview(memory)
        scalars_at, notes_at, data_at = _offsets(world.size, self._blocks)
        self._meeting = Meeting(world, view[:scalars_at].cast("q"), timeout)
        self._scalars = view[scalars_at:notes_at].cast("d")
        self._board = Board(world.rank, world.size, view[notes_at:data_at].cast("d"))
        self.write, self.read = self._board.write, self._board.read
        data = torch.frombuffer(memory, dtype=torch.uint8, offset=data_at)
        self._data = data[: 2 * self._blocks * self._capacity].view(2, self._blocks, self._capacity)
        self._views: dict[tuple[int, int, torch.dtype], list[Tensor]] = {}
        self._sums: dict[tuple[int, int, torch.dtype], Tensor] = {}
        self._turn = 0
        self.name = "shared memory"

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others."""
        return self._meeting.waited

    def resident(self, length: int, dtype: torch.dtype) -> Resident | None:
        """See Exchange.resident; where there is no room, the name says it."""
        if length * dtype.itemsize * self._blocks <= SMALL:
            return None
        try:
            return Resident(self._world, self._tree, self._meeting, length, dtype)
        except Unavailable as error:
            self.name = f"shared memory, {self._capacity >> 10} kB at a time ({error})"
            return None

    def sum(self, blocks: Sequence[Tensor], scalars: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See Exchange.sum."""
        if total.numel() * total.element_size() * self._blocks <= SMALL:
            self._write(blocks, scalars)
            self._meeting.meet()
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
        self._meeting.meet()
        for into, other in self._tree.additions:
            blocks[into][start:end].add_(blocks[other][start:end])
        self._meeting.meet()
        total.copy_(blocks[0])

    def _sum_scalars(self) -> list[float]:
        start = (self._turn & 1) * self._blocks * SCALARS
        values: list[float] = list(self._scalars[start : start + self._blocks * SCALARS])
        return self._tree.sum([values[at : at + SCALARS] for at in range(0, len(values), SCALARS)])
