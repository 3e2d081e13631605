"""This rank's micro-batches of every global batch."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from src import schema
from src.data import paging
from src.data.blocks import BlockOrder, samples_of
from src.data.order import Order, Permutation, ShardSampler, draws
from src.data.prefetch import each
from src.data.splits import Split

Augment = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Taken = tuple[Tensor, Tensor, Tensor]  # of a shard: indices, inputs, targets
# Gathered at once, at most: a few steps' worth costs little more than one and stays in the cache.
SAMPLES_AT_ONCE, BYTES_AT_ONCE = 512, 1 << 23
# Data sets above it are gathered ahead by a thread. A smaller one is in memory after its first epoch; then gathering is
# a few microseconds a step, and a thread that takes turns with the training costs more than that.
AHEAD_BYTES = 1 << 30


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
        self._split = split.to(device) if split.fits(device) else split
        self._local, self._shards, self._device = local, shards, device
        self._batch_size, self._seed, self._augment = settings.global_batch_size, settings.seed, augment
        self._micro_batch_size = settings.micro_batch_size or settings.global_batch_size
        self._samplers = [ShardSampler(len(split), shard, shards) for shard in local]
        self._shuffle, self._sample_bytes = shuffle, split.sample_bytes
        on_disk = len(split) * self._sample_bytes if self._split.device.type == "cpu" else 0
        self._ahead = on_disk > AHEAD_BYTES
        self._reader = None
        if paging.larger_than_memory(on_disk):
            paging.read_alone(split.inputs)
            self._reader = paging.BlockReader(split.inputs) if shuffle == "blocks" else None
        self.steps_per_epoch = -(-len(split) // self._batch_size)

    def count(self, step: int) -> int:
        """Samples in a global batch of the epoch, over all ranks; the last one may be short."""
        return min(self._batch_size, len(self._split) - step * self._batch_size)

    def epoch(self, epoch: int, start: int = 0, stop: int | None = None) -> Iterator[list[MicroBatch]]:
        """For each step from `start` to before `stop`, or to the epoch's end: this rank's micro-batches."""
        stop = self.steps_per_epoch if stop is None else min(stop, self.steps_per_epoch)
        order, at_once = self._order(epoch), self._steps_at_once()
        groups = (range(first, min(first + at_once, stop)) for first in range(start, stop, at_once))
        for steps, taken in each(groups, lambda steps: self._gather(order, steps), self._ahead):
            parts = [self._cut(epoch, shard, steps, rows) for shard, rows in zip(self._local, taken, strict=True)]
            yield from (list(itertools.chain(*step)) for step in zip(*parts, strict=True))

    def _order(self, epoch: int) -> Order:
        samples, device = len(self._split), self._split.device
        if self._shuffle == "full":
            return Permutation(samples, self._seed, epoch, device)
        return BlockOrder(samples, samples_of(self._sample_bytes), self._seed, epoch, device)

    def _steps_at_once(self) -> int:
        samples = min(SAMPLES_AT_ONCE, BYTES_AT_ONCE // self._sample_bytes)
        return max(1, samples // (max(1, self._batch_size // self._shards) * len(self._local)))

    def _gather(self, order: Order, steps: range) -> list[Taken]:
        """The samples of these steps for each local shard, at once."""
        taken = []
        for shard, sampler in zip(self._local, self._samplers, strict=True):
            ends = self._end(shard, steps.start), self._end(shard, steps.stop)
            chosen = sampler.indices(order, *ends, self._split.device)
            if self._reader is not None:
                self._reader.read(self._split.rows(chosen))
            taken.append((chosen, *self._split.take(chosen)))
        return taken

    def _cut(self, epoch: int, shard: int, steps: range, taken: Taken) -> list[list[MicroBatch]]:
        """What was gathered for a local shard as micro-batches of each step, on the rank's device."""
        chosen, inputs, targets = (rows.to(self._device) for rows in taken)
        drawn = draws(self._seed, epoch, chosen) if self._augment is not None else None
        ends = [self._end(shard, step) for step in range(steps.start, steps.stop + 1)]
        shares = []
        for step, (start, end) in zip(steps, itertools.pairwise(ends), strict=True):
            is_first, share = shard == self._first_shard(step), []
            for at in range(start, max(end, start + 1), self._micro_batch_size):
                part = slice(at - ends[0], min(at + self._micro_batch_size, end) - ends[0])
                pair = inputs[part], targets[part]
                # Micro-batch by micro-batch, so that what it mixes within one does not depend on the number of ranks.
                if self._augment is not None and drawn is not None and end > start:
                    pair = self._augment(*pair, drawn[part])
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
