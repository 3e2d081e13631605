"""The order of an epoch, its shares, and a sample's random numbers, which depend on neither rank nor order."""

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from src.data.order import DRAWS, ShardSampler, draws, share_sizes


def test_draws_are_uniform_and_unrelated() -> None:
    numbers = draws(0, 0, torch.arange(20_000))
    assert numbers.shape == (20_000, DRAWS)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert (numbers.mean(0) - 0.5).abs().max() < 0.01
    assert (numbers.var(0) - 1 / 12).abs().max() < 0.003
    related = torch.corrcoef(
        torch.cat([numbers.T, draws(0, 1, torch.arange(20_000)).T, draws(1, 0, torch.arange(20_000)).T])
    )
    assert (related - torch.eye(len(related))).abs().max() < 0.035


def test_draws_depend_on_the_sample_alone() -> None:
    order = torch.randperm(1000)
    assert torch.equal(draws(5, 2, order), draws(5, 2, torch.arange(1000))[order])
    assert not torch.equal(draws(5, 2, order), draws(5, 3, order))
    assert not torch.equal(draws(5, 2, order), draws(6, 2, order))


@given(st.integers(1, 500), st.integers(1, 100), st.integers(1, 40))
def test_every_size_of_a_share_is_foreseen(samples: int, batch: int, shards: int) -> None:
    positions = range(samples)
    found = set()
    for first in range(0, samples, batch):
        step = positions[first : first + batch]
        found |= {sum(position % shards == shard for position in step) for shard in range(shards)}
    foreseen = share_sizes(samples, batch, shards)
    assert found <= foreseen
    assert min(found - {0}) == min(foreseen - {0})
    assert (0 in found) == (0 in foreseen)


@given(st.integers(1, 300), st.integers(1, 64), st.integers(1, 12), st.integers(0, 2**63 - 1), st.integers(0, 5))
@settings(max_examples=30)
def test_the_shards_are_the_epoch_s_permutation(samples: int, batch: int, shards: int, seed: int, epoch: int) -> None:
    own = [ShardSampler(samples, shard, shards, seed).indices(epoch).tolist() for shard in range(shards)]
    assert sorted(index for shard in own for index in shard) == list(range(samples))
    together = [own[position % shards][position // shards] for position in range(samples)]
    assert together == ShardSampler(samples, 0, 1, seed).indices(epoch).tolist()


@given(st.integers(1, 3000), st.integers(1, 1024), st.integers(1, 4096), st.integers(0, 2**31))
@example(2500, 1024, 2048, 0)
@settings(max_examples=8, deadline=None)
def test_a_thousand_ranks_take_the_samples_that_one_takes(samples: int, ranks: int, batch: int, seed: int) -> None:
    """In every step: a rank's share of a step are the positions that are its own."""
    alone = ShardSampler(samples, 0, 1, seed).indices(1).tolist()
    own = [ShardSampler(samples, rank, ranks, seed).indices(1).tolist() for rank in range(ranks)]
    for first in range(0, samples, batch):
        positions = range(first, min(first + batch, samples))
        taken = [own[position % ranks][position // ranks] for position in positions]
        assert sorted(taken) == sorted(alone[first : first + batch])
    assert sum(map(len, own)) == samples
