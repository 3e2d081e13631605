"""Gradients that live in shared memory: written there by each rank, added by the owners of ranges, read where they are.

    scalars   blocks x SCALARS doubles
    blocks    blocks x length numbers: each rank writes its own
    total     length numbers: the sum, which every rank's parameters have as their .grad

In a step the ranks write their blocks and meet; each adds the range that it owns of all blocks into the total; they
meet again. So blocks are written again only when all have added them, and the total only when all have come to the
next step's first meeting, behind their update. Nobody but the owners may write to the total: it is one for all ranks.
"""

from collections.abc import Sequence

import torch

from src.gradients.meeting import CACHE_LINE, Meeting
from src.gradients.shared_file import Unavailable, pages, share
from src.gradients.step import SCALARS, StepResult
from src.gradients.tree import Tree
from src.world.world import World

MOST = 512 << 20  # bytes of /dev/shm, which a container's limit of memory counts
MOST_OF_FREE = 0.5
AT_ONCE = 1 << 18  # bytes: so much of two blocks and of the total stays in a core's own cache


class Resident:
    """`blocks` are this rank's blocks (length,), to be written before `sum`; `total` (length,) is what came out.

    Every rank must make it at the same time. Raises Unavailable, on all ranks alike.
    """

    def __init__(self, world: World, tree: Tree, meeting: Meeting, length: int, dtype: torch.dtype) -> None:
        self._tree, self._meeting, self._mine = tree, meeting, tree.blocks_of[world.rank]
        number, row = len(tree.blocks), pages(length * dtype.itemsize)
        data_at = pages(number * SCALARS * 8)
        size = data_at + (number + 1) * row
        if size > MOST:
            raise Unavailable(f"the gradients of all ranks are {size >> 20} MB")
        memory = share(world, size, MOST_OF_FREE)
        self._scalars = memoryview(memory)[:data_at].cast("d")
        rows = torch.frombuffer(memory, dtype=torch.uint8, offset=data_at).view(number + 1, row)
        numbers = [one.view(dtype)[:length] for one in rows]
        self.total = numbers.pop()
        self.blocks = [numbers[position] for position in self._mine]
        self._parts = [
            ([block[start:end] for block in numbers], self.total[start:end])
            for start, end in _parts(range(length), world.rank, world.size, dtype.itemsize)
        ]

    def sum(self, scalars: Sequence[Sequence[float]], divided: int) -> list[float]:
        """Let the total be the sum of all blocks; return the sums of the scalars, SCALARS for each of this rank's.

        The first `divided` elements are divided by the items, the last scalar. Raises PeerLost.
        """
        for position, numbers in zip(self._mine, scalars, strict=True):
            for at, value in enumerate(numbers, position * SCALARS):
                self._scalars[at] = value
        self._meeting.meet()
        values: list[float] = list(self._scalars[: len(self._tree.blocks) * SCALARS])
        sums = self._tree.sum([values[at : at + SCALARS] for at in range(0, len(values), SCALARS)])
        self._add(float(StepResult(*sums).items), divided)
        self._meeting.meet()
        return sums

    def _add(self, items: float, divided: int) -> None:
        *first, last = self._tree.additions
        start = self.total.storage_offset()
        for blocks, total in self._parts:
            for into, other in first:
                blocks[into].add_(blocks[other])
            torch.add(blocks[last.into], blocks[last.other], out=total)
            left = divided - (total.storage_offset() - start)
            if left > 0 and items:
                total[:left].div_(items)


def _parts(numbers: range, rank: int, ranks: int, itemsize: int) -> list[tuple[int, int]]:
    """(start, end) of what the rank adds at once, in the range that it owns; each begins with a cache line."""
    line, length = CACHE_LINE // itemsize, len(numbers)
    first, last = (min(length, -(-length * part // ranks // line) * line) for part in (rank, rank + 1))
    last = length if rank + 1 == ranks else last
    step = AT_ONCE // itemsize
    return [(start, min(start + step, last)) for start in range(first, last, step)]
