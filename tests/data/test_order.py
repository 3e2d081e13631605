"""The order of an epoch, its shares, and a sample's random numbers, which depend on neither rank nor order."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DistributedSampler

from src.data import order
from src.data.order import DRAWS, Permutation, ShardSampler, draws, share_sizes

SEEDS = st.integers(0, 2**63 - 1)


def whole(samples: int, seed: int = 0, epoch: int = 0, listed: int = order.LISTED) -> Tensor:
    """An epoch's order."""
    return Permutation(samples, seed, epoch, listed=listed).at(torch.arange(samples))


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


@pytest.mark.parametrize(("samples", "seed", "epoch"), [(1009, 7, 2), (1, 0, 0), (640, 2**31 + 5, 1)])
def test_the_order_is_distributed_sampler_s_without_its_padding(samples: int, seed: int, epoch: int) -> None:
    for shard in range(4):
        sampler: DistributedSampler[int] = DistributedSampler(range(samples), 4, shard, seed=seed % 2**31)  # type: ignore[arg-type]
        sampler.set_epoch(epoch)
        own = ShardSampler(samples, shard, 4).indices(Permutation(samples, seed, epoch)).tolist()
        assert own == list(sampler)[: len(own)]
        assert len(own) == len(range(shard, samples, 4))


def test_no_order_of_many_samples_is_held() -> None:
    few, many = (Permutation(samples, 0, 0) for samples in (1000, order.LISTED + 1))
    assert [type(one) for one in vars(few).values() if isinstance(one, Tensor)] == [Tensor]
    assert all(one.numel() == 1 for one in vars(many).values() if isinstance(one, Tensor))
    last = many.at(torch.tensor([0, order.LISTED // 2, order.LISTED]))
    assert bool((last <= order.LISTED).all())


@given(st.integers(1, 3000), SEEDS, st.integers(0, 1000))
def test_a_computed_order_is_a_permutation_too(samples: int, seed: int, epoch: int) -> None:
    assert torch.equal(whole(samples, seed, epoch, listed=0).sort().values, torch.arange(samples))


@given(st.integers(1, 10**12), SEEDS, st.data())
@settings(max_examples=30)
def test_a_computed_order_of_any_size_repeats_no_sample(samples: int, seed: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, samples - 1))
    positions = torch.arange(start, min(start + 2000, samples))
    found = Permutation(samples, seed, 0, listed=0).at(positions)
    assert len({*found.tolist()}) == len(positions)
    assert 0 <= int(found.min()) <= int(found.max()) < samples


@pytest.mark.parametrize("listed", [0, order.LISTED])
def test_epochs_and_seeds_are_unrelated_and_repeat(listed: int) -> None:
    """Ranks of four orders do not correlate, nor does a sample with the one before it; no sample keeps its place."""
    samples = 20_000
    orders = [whole(samples, seed, epoch, listed) for seed, epoch in ((5, 0), (5, 1), (60, 0), (60, 1))]
    orders += [torch.arange(samples), orders[0].roll(1)]
    related = torch.corrcoef(torch.stack(orders).double())
    assert float((related - torch.eye(len(orders))).abs().max()) < 0.035
    for at, one in enumerate(orders):
        for other in orders[:at]:
            assert int((one == other).sum()) < 10, "of 20,000 places that two orders share, one is expected"
    assert torch.equal(orders[0], whole(samples, 5, 0, listed))


def test_every_sample_comes_everywhere_in_a_computed_order() -> None:
    """Chi-squared of (sample, place) over 8,000 orders of 7: 36 degrees of freedom. They are computed at once."""
    places, keys = torch.arange(7), torch.stack([order.stream(seed, 0) for seed in range(8000)])
    orders = order.permuted(places.repeat(8000), 7, keys.repeat_interleave(7)).view(8000, 7)
    for seed in range(50):
        assert torch.equal(orders[seed], whole(7, seed, 0, listed=0)), "each of the keys has an order of its own"
    counts = torch.stack([(orders == sample).sum(0) for sample in range(7)])
    expected = 8000 / 7
    assert float(((counts - expected) ** 2 / expected).sum()) < 80


@given(st.integers(1, 300), st.integers(1, 12), SEEDS, st.integers(0, 5), st.sampled_from([0, 100, order.LISTED]))
@settings(max_examples=30)
def test_the_shards_are_the_epoch_s_permutation(samples: int, shards: int, seed: int, epoch: int, listed: int) -> None:
    order = Permutation(samples, seed, epoch, listed=listed)
    own = [ShardSampler(samples, shard, shards).indices(order).tolist() for shard in range(shards)]
    assert sorted(index for shard in own for index in shard) == list(range(samples))
    together = [own[position % shards][position // shards] for position in range(samples)]
    assert together == whole(samples, seed, epoch, listed).tolist()


@given(st.integers(1, 3000), st.integers(1, 1024), st.integers(1, 4096), st.integers(0, 2**31))
@example(2500, 1024, 2048, 0)
@settings(max_examples=8, deadline=None)
def test_a_thousand_ranks_take_the_samples_that_one_takes(samples: int, ranks: int, batch: int, seed: int) -> None:
    """In every step: a rank's share of a step are the positions that are its own."""
    order = Permutation(samples, seed, 1)
    alone = ShardSampler(samples, 0, 1).indices(order).tolist()
    own = [ShardSampler(samples, rank, ranks).indices(order).tolist() for rank in range(ranks)]
    for first in range(0, samples, batch):
        positions = range(first, min(first + batch, samples))
        taken = [own[position % ranks][position // ranks] for position in positions]
        assert sorted(taken) == sorted(alone[first : first + batch])
    assert sum(map(len, own)) == samples
