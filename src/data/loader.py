"""Which samples each rank takes in each step, exactly, for any number of shards.

A shard is a fixed share of every global batch: shard s of S takes the positions p of the epoch's
permutation with p % S == s. With train.sync=ddp every rank is one shard; with bitwise there are always
train.shards, dealt to the ranks, so that nothing depends on the number of ranks.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from src import schema
from src.data.dataset import Split
from src.models import logistic

# Samples gathered and scaled at once: a few steps' worth costs little more than one and stays in the cache.
SAMPLES_AT_ONCE = 512


@dataclass(frozen=True)
class MicroBatch:
    """A shard's share of one global batch: images (n, PIXELS) float32 in [0, 1], targets; n may be 0."""

    images: Tensor
    targets: Tensor


class ShardSampler:
    """The order of an epoch for one shard: DistributedSampler's own, without the positions it repeats.

    DistributedSampler evens out its shards by repeating samples from the start; here they weigh 0, that is,
    they are not taken.
    """

    def __init__(self, samples: int, shard: int, shards: int, seed: int) -> None:
        self._sampler = DistributedSampler(range(samples), shards, shard, shuffle=True, seed=seed % 2**31)  # type: ignore[arg-type,var-annotated]
        self._own = len(range(shard, samples, shards))

    def indices(self, epoch: int) -> Tensor:
        """Indices into the data set, (own,) int64; a pure function of (seed, epoch)."""
        self._sampler.set_epoch(epoch)
        return torch.tensor(list(self._sampler), dtype=torch.int64)[: self._own]


class ShardedLoader:
    """This rank's parts of every global batch."""

    def __init__(self, split: Split, settings: schema.Train, own: range, shards: int, device: torch.device) -> None:
        self._split, self._own, self._shards, self._device = split.to(device), own, shards, device
        self._batch_size, self._loss = settings.global_batch_size, settings.loss
        self._orders = [ShardSampler(len(split), shard, shards, settings.seed) for shard in own]
        self.steps_per_epoch = -(-len(split) // self._batch_size)

    def count(self, step: int) -> int:
        """Samples in a global batch of the epoch, over all ranks; the last one may be short."""
        return min(self._batch_size, len(self._split) - step * self._batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[MicroBatch]]:
        """For each step from `start`: this rank's parts, one per own shard, in shard order."""
        orders = [order.indices(epoch).to(self._device) for order in self._orders]
        per_step = max(1, self._batch_size // self._shards)
        steps_at_once = max(1, SAMPLES_AT_ONCE // (per_step * len(orders)))
        for first in range(start, self.steps_per_epoch, steps_at_once):
            last = min(first + steps_at_once, self.steps_per_epoch)
            parts = [self._gather(order, shard, first, last) for order, shard in zip(orders, self._own, strict=True)]
            yield from (list(step) for step in zip(*parts, strict=True))

    def _gather(self, order: Tensor, shard: int, first: int, last: int) -> list[MicroBatch]:
        """The shard's parts of the steps first <= step < last, gathered and scaled at once."""
        ends = [self._end(shard, step) for step in range(first, last + 1)]
        chosen = order[ends[0] : ends[-1]]
        # Division, not multiplication by 1/255, which rounds differently: what ToTensor computes.
        # index_select: indexing with a tensor copies the same bytes in 7 times the time.
        images = self._split.images.index_select(0, chosen).float().div_(255)
        targets = logistic.targets(self._split.labels.index_select(0, chosen), self._loss)
        sizes = [end - start for start, end in itertools.pairwise(ends)]
        return [MicroBatch(*pair) for pair in zip(torch.split(images, sizes), torch.split(targets, sizes), strict=True)]

    def _end(self, shard: int, step: int) -> int:
        """How many of the shard's samples come before the step: positions shard + k * shards below it."""
        position = min(step * self._batch_size, len(self._split))
        return -(-(position - shard) // self._shards) if position > shard else 0
