"""The order of an epoch's samples, and which of them are a shard's: pure functions of (seed, epoch).

A shard is a fixed share of every global batch: shard s of S takes the positions p of the epoch's permutation with
p % S == s. With train.sync=ddp every rank is one shard; with bitwise there are always train.shards, dealt to the
ranks, so that nothing depends on the number of ranks.
"""

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

DRAWS = 8  # random numbers for each sample and epoch
# SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), as signed 64-bit integers.
GAMMA, FIRST, SECOND = (value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class ShardSampler:
    """The order of an epoch for one shard: DistributedSampler's own, without the positions that it repeats.

    DistributedSampler evens out its shards by repeating samples from the start; here they are not taken.
    """

    def __init__(self, samples: int, shard: int, shards: int, seed: int) -> None:
        self._sampler = DistributedSampler(range(samples), shards, shard, shuffle=True, seed=seed % 2**31)  # type: ignore[arg-type,var-annotated]
        self._samples = len(range(shard, samples, shards))

    def indices(self, epoch: int) -> Tensor:
        """Indices into the data set, (samples of the shard,) int64."""
        self._sampler.set_epoch(epoch)
        return torch.tensor(list(self._sampler), dtype=torch.int64)[: self._samples]


def share_sizes(samples: int, batch: int, shards: int) -> set[int]:
    """How many samples a shard has in a step, 0 included: every number that occurs in an epoch."""
    batches = {min(batch, samples), samples % batch} - {0}
    return {size for samples in batches for size in (samples // shards, -(-samples // shards))}


def draws(seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Random numbers in [0, 1), (n, DRAWS) float32: a pure function of (seed, epoch, sample)."""
    stream = _mix(torch.tensor(seed % 2**63, dtype=torch.int64)) + epoch
    keys = _mix(_mix(stream).to(indices.device) + indices)
    numbers = _mix(keys[:, None] + torch.arange(1, DRAWS + 1, device=indices.device) * GAMMA)
    return ((numbers >> 40) & 0xFFFFFF).float() / 2**24


def _mix(value: Tensor) -> Tensor:
    """SplitMix64's finalizer: 64 bits in, 64 bits out, each depending on all."""
    value = value + GAMMA
    value = (value ^ _shifted(value, 30)) * FIRST
    value = (value ^ _shifted(value, 27)) * SECOND
    return value ^ _shifted(value, 31)


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Shifted right without the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
