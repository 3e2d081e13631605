"""This rank's micro-batches of every global batch."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from src import schema
from src.data.blocks import BlockOrder, samples_of
from src.data.order import Order, Permutation, ShardSampler, draws
from src.data.splits import Split

Augment = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
# Samples gathered at once: a few steps' worth costs little more than one and stays in the cache.
SAMPLES_AT_ONCE = 512


@dataclass(frozen=True)
class MicroBatch:
    """A shard's share of one global batch, or a part of it: inputs (n, *shape) as they are stored, targets (n, ...).

    n may be 0. `is_first` says that no shard before it has samples of the batch.
    """

    inputs: Tensor
    targets: Tensor
    is_first: bool = True


class ShardedLoader:
    """This rank's micro-batches of every global batch: one for each of its shards, in shard order.

    `local` are this rank's shards of all `shards`; `augment` changes training samples by random numbers. With
    train.micro_batch_size a shard's share comes in micro-batches of so many samples at most. `shuffle` is data.shuffle.
    """

    def __init__(
        self,
        split: Split,
        settings: schema.Train,
        local: range,
        shards: int,
        device: torch.device,
        augment: Augment | None = None,
        shuffle: str = "full",
    ) -> None:
        self._split, self._local, self._shards, self._device = split.to(device), local, shards, device
        self._batch_size, self._seed, self._augment = settings.global_batch_size, settings.seed, augment
        self._micro_batch_size = settings.micro_batch_size or settings.global_batch_size
        self._samplers = [ShardSampler(len(split), shard, shards) for shard in local]
        self._shuffle = shuffle
        self.steps_per_epoch = -(-len(split) // self._batch_size)

    def count(self, step: int) -> int:
        """Samples in a global batch of the epoch, over all ranks; the last one may be short."""
        return min(self._batch_size, len(self._split) - step * self._batch_size)

    def epoch(self, epoch: int, start: int = 0, stop: int | None = None) -> Iterator[list[MicroBatch]]:
        """For each step from `start` to before `stop`, or to the epoch's end: this rank's micro-batches."""
        stop = self.steps_per_epoch if stop is None else min(stop, self.steps_per_epoch)
        order = self._order(epoch)
        per_step = max(1, self._batch_size // self._shards)
        steps_at_once = max(1, SAMPLES_AT_ONCE // (per_step * len(self._samplers)))
        for first in range(start, stop, steps_at_once):
            last = min(first + steps_at_once, stop)
            gathered = [self._gather(epoch, order, at, first, last) for at in range(len(self._local))]
            yield from (list(itertools.chain(*step)) for step in zip(*gathered, strict=True))

    def _order(self, epoch: int) -> Order:
        samples, inputs = len(self._split), self._split.inputs
        if self._shuffle == "full":
            return Permutation(samples, self._seed, epoch, self._device)
        block = samples_of(math.prod(inputs.shape[1:]) * inputs.dtype.itemsize)
        return BlockOrder(samples, block, self._seed, epoch, self._device)

    def _gather(self, epoch: int, order: Order, local: int, first: int, last: int) -> list[list[MicroBatch]]:
        """The micro-batches of a local shard for the steps first <= step < last, gathered at once."""
        shard = self._local[local]
        ends = [self._end(shard, step) for step in range(first, last + 1)]
        chosen = self._samplers[local].indices(order, ends[0], ends[-1], self._device)
        inputs, targets = self._split.take(chosen)
        shares = []
        for step, (start, end) in enumerate(itertools.pairwise(ends), first):
            is_first, share = shard == self._first_shard(step), []
            for at in range(start, max(end, start + 1), self._micro_batch_size):
                part = slice(at - ends[0], min(at + self._micro_batch_size, end) - ends[0])
                pair = inputs[part], targets[part]
                # Micro-batch by micro-batch, so that what it mixes within one does not depend on the number of ranks.
                if self._augment is not None and end > start:
                    pair = self._augment(*pair, draws(self._seed, epoch, chosen[part]))
                share.append(MicroBatch(*pair, is_first))
            shares.append(share)
        return shares

    def _first_shard(self, step: int) -> int:
        """The first shard that has samples in the step."""
        first = step * self._batch_size % self._shards
        return first if first + self.count(step) <= self._shards else 0

    def _end(self, shard: int, step: int) -> int:
        """How many of the shard's samples come before the step: positions shard + k * shards below it."""
        position = min(step * self._batch_size, len(self._split))
        return -(-(position - shard) // self._shards) if position > shard else 0
