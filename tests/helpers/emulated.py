"""A thousand ranks in this process: threads, between which the collectives of `Backend` move bits and count them."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from src.world.world import World


class Collectives:
    """What src.gradients.exchange asks of torch.distributed; `sent` are the bytes that each rank gives away."""

    def __init__(self, ranks: int) -> None:
        self._ranks, self._given, self._barrier = ranks, [torch.empty(0)] * ranks, threading.Barrier(ranks)
        self._here = threading.local()
        self.sent = [0] * ranks

    def run(self, work: Callable[[World], Any]) -> list[Any]:
        """What `work` returns on each rank."""

        def one(rank: int) -> Any:
            self._here.rank = rank
            return work(World(rank=rank, size=self._ranks, backend="gloo"))

        with ThreadPoolExecutor(self._ranks) as threads:
            return list(threads.map(one, range(self._ranks)))

    def all_to_all_single(self, out: Tensor, mine: Tensor, _received: Sequence[int], sizes: Sequence[int]) -> None:
        """See torch.distributed."""
        rank = self._here.rank
        self._give(rank, mine, mine.nbytes - sizes[rank] * mine.element_size())
        starts = [mine_of.numel() // self._ranks * rank for mine_of in self._given]
        parts = [given[at : at + given.numel() // self._ranks] for at, given in zip(starts, self._given, strict=True)]
        out.copy_(torch.cat(parts))
        self._barrier.wait()

    def all_gather(self, out: Sequence[Tensor], mine: Tensor) -> None:
        """See torch.distributed; a ring, so that a rank passes on all parts but one."""
        self._give(self._here.rank, mine, mine.nbytes * (self._ranks - 1))
        for row, given in zip(out, self._given, strict=True):
            row.copy_(given)
        self._barrier.wait()

    def _give(self, rank: int, tensor: Tensor, count: int) -> None:
        self._given[rank] = tensor
        self.sent[rank] += count
        self._barrier.wait()
