"""Adding what the ranks hold in a fixed tree: within one process, or through torch's backend, which only moves bits."""

from collections.abc import Sequence
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

    def sum(self, blocks: Sequence[Tensor], scalars: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """Write into `total` (n,) the sum of all blocks; return the sums of the scalars.

        `blocks` are the flat tensors (n,) of this rank's blocks, `scalars` SCALARS numbers for each; `total` may be
        one of them. Raises PeerLost.
        """


class Local:
    """A world of one: its only block is the sum."""

    name = "one rank"
    waited = 0.0

    def resident(self, length: int, dtype: torch.dtype) -> None:
        """See Exchange.resident."""

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

    waited = 0.0

    def __init__(self, world: World, tree: Tree, name: str) -> None:
        self.name = name
        self._world, self._tree = world, tree
        self._counts = [len(blocks) for blocks in tree.blocks_of]
        self._most = max(self._counts)

    def resident(self, length: int, dtype: torch.dtype) -> None:
        """See Exchange.resident."""

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
        dist.all_to_all_single(received.view(-1), by_owner.view(-1), counts, [len(blocks) * length] * size)
        return received

    def _gathered(self, rows: Tensor, scalars: Sequence[Sequence[float]]) -> tuple[Tensor, list[list[float]]]:
        """((ranks, *rows.shape), the scalars of all blocks): both travel together, as bytes."""
        numbers = torch.zeros(self._most, SCALARS, dtype=torch.float64)
        numbers[: len(scalars)] = torch.tensor(scalars, dtype=torch.float64)
        payload = torch.cat([_bytes(numbers).to(rows.device), _bytes(rows)])
        received = payload.new_empty(self._world.size, len(payload))
        dist.all_gather(list(received), payload)
        split = numbers.numel() * 8
        values = received[:, :split].cpu().contiguous().view(torch.float64).view(-1, *numbers.shape).tolist()
        gathered = received[:, split:].contiguous().view(rows.dtype).view(-1, *rows.shape)
        return gathered, [row for part, count in zip(values, self._counts, strict=True) for row in part[:count]]


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.view(-1).view(torch.uint8)


def _added(blocks: list[Tensor], tree: Tree) -> Tensor:
    """The sum of all blocks, in the first one."""
    for into, other in tree.additions:
        blocks[into].add_(blocks[other])
    return blocks[0]
