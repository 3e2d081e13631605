"""Adding what the ranks hold in a fixed tree: within one process, or through torch's backend, which only moves bits."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch
import torch.distributed as dist  # noqa: TID251
from torch import Tensor

from src.gradients.step import SCALARS
from src.gradients.tree import Tree
from src.world.world import World

if TYPE_CHECKING:
    from src.gradients.resident import Resident

# Up to so many bytes each rank takes all blocks and adds them itself: one meeting of the ranks is quicker than two.
SMALL = 1 << 18


class Exchange(Protocol):
    """Adds the blocks that the ranks hold between them, in the order of the tree."""

    name: str

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others (0 where it is not measured)."""

    def resident(self, length: int, dtype: torch.dtype) -> "Resident | None":
        """Memory in which so many numbers can live and be summed without a copy; None where there is none, or where
        it would not pay. Called by all ranks.
        """

    def write(self, note: Sequence[float]) -> None:
        """Before a sum: what this rank tells the others (src.gradients.notes). Called by all ranks."""

    def read(self) -> list[list[float]]:
        """After that sum: the notes of all ranks."""

    def sum(self, blocks: Sequence[Tensor], scalars: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """Write into `total` (n,) the sum of all blocks; return the sums of the scalars.

        `blocks` are the flat tensors (n,) of this rank's blocks, `scalars` SCALARS numbers for each; `total` may be
        one of them. Raises PeerLost.
        """


class Local:
    """A world of one: its only block is the sum."""

    name = "one rank"
    waited = 0.0
    _notes: list[list[float]]

    def resident(self, length: int, dtype: torch.dtype) -> None:
        """See Exchange.resident."""

    def write(self, note: Sequence[float]) -> None:
        """See Exchange.write."""
        self._notes = [list(note)]

    def read(self) -> list[list[float]]:
        """See Exchange.read."""
        return self._notes

    def sum(self, blocks: Sequence[Tensor], scalars: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See Exchange.sum."""
        (block,), (numbers,) = blocks, scalars
        if block is not total:
            total.copy_(block)
        return list(numbers)


class Backend:
    """Through torch's backend (gloo, NCCL): each rank adds one range of all blocks, and hands it back.

    What is SMALL takes one all_gather instead, after which each rank adds everything.
    """

    def __init__(self, world: World, tree: Tree, name: str) -> None:
        self.name, self.waited = name, 0.0
        self._world, self._tree = world, tree
        self._counts = [len(blocks) for blocks in tree.blocks_of]
        self._most = max(self._counts)
        self._note: list[float] = []
        self._notes: list[list[float]] = []

    def resident(self, length: int, dtype: torch.dtype) -> None:
        """See Exchange.resident."""

    def write(self, note: Sequence[float]) -> None:
        """See Exchange.write."""
        self._note = list(note)

    def read(self) -> list[list[float]]:
        """See Exchange.read."""
        self._note = []
        return self._notes

    def sum(self, blocks: Sequence[Tensor], scalars: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See Exchange.sum."""
        if total.numel() * total.element_size() * len(self._tree.blocks) <= SMALL:
            rows = total.new_zeros(self._most, total.numel())
            torch.stack(list(blocks), out=rows[: len(blocks)])
            gathered, numbers = self._gathered(rows, scalars)
            all_blocks = [row for part, count in zip(gathered, self._counts, strict=True) for row in part[:count]]
            total.copy_(_added(all_blocks, self._tree))
        else:
            mine = _added(list(self._range_of_all(blocks, total)), self._tree)
            gathered, numbers = self._gathered(mine[None], scalars)
            total.copy_(gathered.view(-1)[: total.numel()])
        return self._tree.sum(numbers)

    def _range_of_all(self, blocks: Sequence[Tensor], total: Tensor) -> Tensor:
        """(blocks of all ranks, range): the range of this rank, from each block; the last rank's may end in zeros."""
        size, length = self._world.size, -(-total.numel() // self._world.size)
        sent = total.new_zeros(len(blocks), size * length)
        for row, block in zip(sent, blocks, strict=True):
            row[: block.numel()] = block
        by_owner = sent.view(len(blocks), size, length).transpose(0, 1).contiguous()
        received = total.new_empty(len(self._tree.blocks), length)
        counts = [count * length for count in self._counts]
        with self._waiting(sent):
            dist.all_to_all_single(received.view(-1), by_owner.view(-1), counts, [len(blocks) * length] * size)
        return received

    @contextmanager
    def _waiting(self, sent: Tensor) -> Iterator[None]:
        """Around what waits for the other ranks and moves the bits; on a GPU it only begins to."""
        began = time.perf_counter()
        yield
        self.waited += 0.0 if sent.is_cuda else time.perf_counter() - began

    def _gathered(self, rows: Tensor, scalars: Sequence[Sequence[float]]) -> tuple[Tensor, list[list[float]]]:
        """((ranks, *rows.shape), the scalars of all blocks): both travel together, as bytes, and so does a note."""
        used = self._most * SCALARS
        numbers = torch.zeros(used + len(self._note), dtype=torch.float64)
        own = [float(value) for row in scalars for value in row]  # on a GPU it is waited for here, once a step
        numbers[: len(own)] = torch.tensor(own, dtype=torch.float64)
        numbers[used:] = torch.tensor(self._note, dtype=torch.float64)
        payload = torch.cat([_bytes(numbers).to(rows.device), _bytes(rows)])
        received = payload.new_empty(self._world.size, len(payload))
        with self._waiting(payload):
            dist.all_gather(list(received), payload)
        split = numbers.numel() * 8
        table = received[:, :split].cpu().contiguous().view(torch.float64)
        self._notes = table[:, used:].tolist()
        values = table[:, :used].reshape(-1, self._most, SCALARS).tolist()
        gathered = received[:, split:].contiguous().view(rows.dtype).view(-1, *rows.shape)
        return gathered, [row for part, count in zip(values, self._counts, strict=True) for row in part[:count]]


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8)


def _added(blocks: list[Tensor], tree: Tree) -> Tensor:
    """The sum of all blocks, in the first one."""
    for into, other in tree.additions:
        blocks[into].add_(blocks[other])
    return blocks[0]
