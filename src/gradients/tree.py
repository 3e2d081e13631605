r"""The fixed binary tree in which the shards of a batch are added: its bits do not depend on who adds what.

    shards   0   1     2   3     4   5
              \ /       \ /       \ /
               +         +         |          the same additions for 1 rank that has all six shards
                \       /          |          and for 3 ranks that have two each
                 ---+---           |
                     \            /
                      -----+------

The ranks' shards are consecutive. A rank adds the whole subtrees among its own (its blocks) by itself, and holds one
tensor for each; what is left to add, `Tree.additions`, is added by whoever has a range of all blocks.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple


class Block(NamedTuple):
    """The subtree over the shards start <= shard < start + size, of which the last ones need not exist."""

    start: int
    size: int  # a power of two


class Addition(NamedTuple):
    """What is at position `other` is added to what is at position `into`."""

    into: int
    other: int


def leaves(shards: range) -> list[Block]:
    """Each shard as a block."""
    return [Block(shard, 1) for shard in shards]


def merge(blocks: Iterable[Block], shards: int) -> tuple[list[Block], list[list[Addition]]]:
    """(the blocks that are left, for each block the additions that it makes possible): siblings are added.

    `blocks` are consecutive, in order, and an Addition's positions are those in `blocks`.
    """
    left: list[tuple[Block, int]] = []
    additions: list[list[Addition]] = []
    for position, block in enumerate(blocks):
        left.append((_grown(block, shards), position))
        additions.append([])
        while len(left) > 1 and _are_siblings(left[-2][0], left[-1][0]):
            (_, other), (first, into) = left.pop(), left.pop()
            additions[-1].append(Addition(into, other))
            left.append((_grown(Block(first.start, 2 * first.size), shards), into))
    return [block for block, _ in left], additions


def _grown(block: Block, shards: int) -> Block:
    """The largest subtree with the same shards: what has no sibling goes up as it is."""
    start, size = block
    while start and start % (2 * size) == 0 and start + size >= shards:
        size *= 2
    return Block(start, size)


def _are_siblings(one: Block, other: Block) -> bool:
    return one.size == other.size and one.start % (2 * one.size) == 0 and other.start == one.start + one.size


class Tree:
    """The tree over `shards` shards, dealt to ranks: `shards_of[rank]` are consecutive, rank by rank.

    `blocks` are those of all ranks in order, `blocks_of[rank]` a rank's positions among them, and `additions` what is
    left to add between them: the sum is at position 0 after the last one.
    """

    def __init__(self, shards: int, shards_of: Sequence[range]) -> None:
        self.shards, self.shards_of = shards, list(shards_of)
        self.blocks: list[Block] = []
        self.blocks_of: list[range] = []
        for own in shards_of:
            first = len(self.blocks)
            self.blocks += merge(leaves(own), shards)[0]
            self.blocks_of.append(range(first, len(self.blocks)))
        left, additions = merge(self.blocks, shards)
        assert len(left) == 1, left
        self.additions = list(chain(*additions))

    def sum(self, rows: list[list[float]]) -> list[float]:
        """The sums of the columns of `rows`, which has one row for each block."""
        sums = list(rows)
        for into, other in self.additions:
            sums[into] = [one + two for one, two in zip(sums[into], sums[other], strict=True)]
        return sums[0]
