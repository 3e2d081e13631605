"""What ranks hand in for a tree's blocks, and their sum in a plain loop."""

from collections.abc import Iterable

import torch
from torch import Tensor

from src.gradients.tree import Tree

SHARDS = 8
DTYPES = (torch.float32, torch.float64)
Added = tuple[Tensor, list[float]]


def block(start: int, size: int, length: int, dtype: torch.dtype) -> Tensor:
    """What a rank has added up for a block: numbers whose sum depends on the order."""
    generator = torch.Generator().manual_seed(1000 * start + size)
    exponents = torch.randint(-8, 8, (length,), generator=generator)
    return (torch.randn(length, generator=generator, dtype=torch.float64) * 2.0**exponents).to(dtype)


def plain_loop(tree: Tree, length: int, dtype: torch.dtype) -> Added:
    blocks = [block(*one, length, dtype) for one in tree.blocks]
    scalars = [[1.0 * one.start, 1.0, 0.5 * one.size] for one in tree.blocks]
    for into, other in tree.additions:
        blocks[into] = blocks[into] + blocks[other]
    return blocks[0], [sum(column) for column in zip(*scalars, strict=True)]


def plain_loops(tree: Tree, lengths: Iterable[int]) -> dict[tuple[int, torch.dtype], Added]:
    """All of them, computed once: ranks that are forked after it need not do it again."""
    return {(length, dtype): plain_loop(tree, length, dtype) for length in lengths for dtype in DTYPES}
