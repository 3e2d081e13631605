"""The order of an epoch's samples, and which of them are a shard's: pure functions of (seed, epoch, position).

A shard is a fixed share of every global batch: shard s of S takes the positions p of the epoch's permutation with
p % S == s. With train.sync=ddp every rank is one shard; with bitwise there are always train.shards, dealt to the
ranks, so that nothing depends on the number of ranks.
"""

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

DRAWS = 8  # random numbers for each sample and epoch
LISTED = 10_000_000  # samples: the order of more is computed where it is used, and never held
ROUNDS = 4  # of the permutation's network, each of two halves
# SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014), as signed 64-bit integers.
GAMMA, FIRST, SECOND = (value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
POSITIVE = 2**63 - 1
CPU = torch.device("cpu")


class Order(Protocol):
    """The order of an epoch."""

    def at(self, positions: Tensor) -> Tensor:
        """The samples at these positions (n,) int64 of the epoch, (n,) int64."""


class Permutation:
    """An order in which any sample may follow any other.

    Up to `listed` samples it is DistributedSampler's own, a list of 8 bytes a sample; above, it is computed.
    """

    def __init__(
        self, samples: int, seed: int, epoch: int, device: torch.device = CPU, *, listed: int = LISTED
    ) -> None:
        self._samples, self._order = samples, None
        if samples <= listed:
            generator = torch.Generator().manual_seed(seed % 2**31 + epoch)
            self._order = torch.randperm(samples, generator=generator).to(device)
        else:
            self._stream = stream(seed, epoch).to(device)

    def at(self, positions: Tensor) -> Tensor:
        """The samples at these positions (n,) int64 of the epoch, (n,) int64."""
        if self._order is not None:
            return self._order.index_select(0, positions)
        return permuted(positions, self._samples, self._stream)


class ShardSampler(DistributedSampler[int]):
    """DistributedSampler for a shard in the place of a rank: a stretch of its indices, computed where it is used.

    The samples that it repeats to give all shards as many are left out.
    """

    def __init__(self, samples: int, shard: int, shards: int) -> None:
        super().__init__(range(samples), shards, shard)  # type: ignore[arg-type]
        self.samples = len(range(shard, samples, shards))

    def indices(self, order: Order, start: int = 0, stop: int | None = None, device: torch.device = CPU) -> Tensor:
        """Indices into the data set of the shard's samples start <= k < stop, int64."""
        first, last = (self.rank + at * self.num_replicas for at in (start, self.samples if stop is None else stop))
        return order.at(torch.arange(first, last, self.num_replicas, device=device))


def permuted(positions: Tensor, samples: int, keys: Tensor) -> Tensor:
    """A permutation of range(samples), at these positions (n,) int64; each of the keys, () or (n,) int64, has its own.

    A Feistel network over a rectangle that is as little larger as possible; what comes out beyond the samples goes
    through it again (cycle-walking). Black and Rogaway: Ciphers with arbitrary finite domains, 2002.
    """
    rows = math.isqrt(max(samples - 1, 0)) + 1
    sides = rows, -(-samples // rows)
    found = _network(positions, sides, keys)
    while len(beyond := (found >= samples).nonzero().flatten()):
        found[beyond] = _network(found[beyond], sides, keys if keys.dim() == 0 else keys[beyond])
    return found


def _network(values: Tensor, sides: tuple[int, int], keys: Tensor) -> Tensor:
    rows, columns = sides
    row, column = values // columns, values % columns
    for number in range(ROUNDS):
        row = (row + (_mix(_mix(keys + 2 * number) + column) & POSITIVE) % rows) % rows
        column = (column + (_mix(_mix(keys + 2 * number + 1) + row) & POSITIVE) % columns) % columns
    return row * columns + column


def share_sizes(samples: int, batch: int, shards: int) -> set[int]:
    """How many samples a shard has in a step, 0 included: every number that occurs in an epoch."""
    batches = {min(batch, samples), samples % batch} - {0}
    return {size for samples in batches for size in (samples // shards, -(-samples // shards))}


def draws(seed: int, epoch: int, indices: Tensor) -> Tensor:
    """Random numbers in [0, 1), (n, DRAWS) float32: a pure function of (seed, epoch, sample)."""
    keys = _mix(stream(seed, epoch).to(indices.device) + indices)
    numbers = _mix(keys[:, None] + torch.arange(1, DRAWS + 1, device=indices.device) * GAMMA)
    return ((numbers >> 40) & 0xFFFFFF).float() / 2**24


def stream(seed: int, epoch: int) -> Tensor:
    """A number for each seed and epoch, () int64, unrelated to those of others."""
    return _mix(_mix(torch.tensor(seed % 2**63, dtype=torch.int64)) + epoch)


def _mix(value: Tensor) -> Tensor:
    """SplitMix64's finalizer: 64 bits in, 64 bits out, each depending on all."""
    value = value + GAMMA
    value = (value ^ _shifted(value, 30)) * FIRST
    value = (value ^ _shifted(value, 27)) * SECOND
    return value ^ _shifted(value, 31)


def _shifted(value: Tensor, bits: int) -> Tensor:
    """Shifted right without the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)
