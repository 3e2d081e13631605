"""Each sample is trained once an epoch, on any number of ranks."""

import pytest
import torch
from torch import Tensor
from torch.utils.data import DistributedSampler

from src import config, schema
from src.data.dataset import Split
from src.data.loader import ShardedLoader, ShardSampler
from src.gradients.build import local_shards
from src.world.world import World

CPU = torch.device("cpu")


def split(samples: int) -> Split:
    """Samples that can be told apart by their first two pixels."""
    numbers = torch.arange(samples)
    images = torch.zeros(samples, 784, dtype=torch.uint8)
    images[:, 0], images[:, 1] = numbers // 256, numbers % 256
    return Split(images, numbers % 10)


def numbers(images: Tensor) -> list[int]:
    pixels = (images * 255).round().long()
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


def batches(samples: int, batch: int, rank: int, world_size: int, **settings: object) -> ShardedLoader:
    chosen = config.parse([f"train.global_batch_size={batch}", *(f"train.{k}={v}" for k, v in settings.items())]).train
    count, own = local_shards(chosen, World(rank=rank, size=world_size))
    return ShardedLoader(split(samples), chosen, own, count, CPU)


@pytest.mark.parametrize("world_size", range(1, 9))
@pytest.mark.parametrize("samples", [1009, 640])
def test_shards_are_disjoint_and_cover_the_epoch(samples: int, world_size: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        for (part,) in batches(samples, 64, rank, world_size).epoch(0):
            seen += numbers(part.images)
    assert sorted(seen) == list(range(samples))


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_every_world_size_sees_the_same_samples_in_the_same_steps(world_size: int) -> None:
    alone = [set(numbers(part.images)) for (part,) in batches(1009, 64, 0, 1).epoch(3)]
    together: list[set[int]] = [set() for _ in alone]
    for rank in range(world_size):
        for step, (part,) in enumerate(batches(1009, 64, rank, world_size).epoch(3)):
            together[step] |= set(numbers(part.images))
    assert together == alone


def test_a_batch_of_64_is_shared_by_three_ranks() -> None:
    sizes = [[len(part.images) for (part,) in batches(640, 64, rank, 3).epoch(0)] for rank in range(3)]
    assert [tuple(step) for step in zip(*sizes, strict=True)][:2] == [(22, 21, 21), (21, 22, 21)]
    assert all(sum(step) == 64 for step in zip(*sizes, strict=True))


def test_the_short_last_batch_is_trained() -> None:
    chosen = batches(1009, 64, 0, 1)
    counts = [len(part.images) for (part,) in chosen.epoch(0)]
    assert counts == [64] * 15 + [49]
    assert [chosen.count(step) for step in range(16)] == counts


def test_the_order_is_distributed_sampler_s_without_its_padding() -> None:
    for shard in range(4):
        sampler: DistributedSampler[int] = DistributedSampler(range(1009), 4, shard, seed=7)  # type: ignore[arg-type]
        sampler.set_epoch(2)
        own = ShardSampler(1009, shard, 4, 7).indices(2).tolist()
        assert own == list(sampler)[: len(own)]
        assert len(own) == len(range(shard, 1009, 4))


def test_epochs_differ_and_seeds_repeat() -> None:
    order = ShardSampler(1009, 0, 1, 5)
    assert order.indices(0).tolist() != order.indices(1).tolist()
    assert order.indices(1).tolist() == ShardSampler(1009, 0, 1, 5).indices(1).tolist()
    assert order.indices(0).tolist() != ShardSampler(1009, 0, 1, 6).indices(0).tolist()


@pytest.mark.parametrize("start", [1, 7, 15])
def test_an_epoch_can_be_resumed_at_any_step(start: int) -> None:
    whole = [numbers(part.images) for (part,) in batches(1009, 64, 1, 3).epoch(1)]
    assert [numbers(part.images) for (part,) in batches(1009, 64, 1, 3).epoch(1, start)] == whole[start:]


@pytest.mark.parametrize("world_size", range(1, 9))
def test_bitwise_shards_do_not_depend_on_the_world(world_size: int) -> None:
    alone = [[numbers(part.images) for part in parts] for parts in batches(1009, 64, 0, 1, sync="bitwise").epoch(0)]
    dealt: list[list[list[int]]] = [[] for _ in alone]
    for rank in range(world_size):
        for step, parts in enumerate(batches(1009, 64, rank, world_size, sync="bitwise").epoch(0)):
            dealt[step] += [numbers(part.images) for part in parts]
    assert dealt == alone


def test_more_ranks_than_samples_in_a_batch() -> None:
    sizes = [[len(part.images) for (part,) in batches(10, 2, rank, 4).epoch(0)] for rank in range(4)]
    assert [sum(step) for step in zip(*sizes, strict=True)] == [2] * 5


def test_images_are_scaled_as_to_tensor_does() -> None:
    every = Split(torch.arange(256, dtype=torch.uint8).repeat(4)[:784].repeat(3, 1), torch.zeros(3, dtype=torch.int64))
    (parts,) = ShardedLoader(every, schema.Train(global_batch_size=3), range(1), 1, CPU).epoch(0)
    assert torch.equal(parts[0].images, every.images.float() / 255)
