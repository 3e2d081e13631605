"""Each sample is trained once an epoch, on any number of ranks."""

import threading

import pytest
import torch
from torch import Tensor

from src import config, schema
from src.data import blocks, loader
from src.data.loader import ShardedLoader
from src.data.order import Permutation, draws
from src.data.splits import Split
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
    pixels = images.long()
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


def batches(
    samples: int, batch: int, rank: int, world_size: int, shuffle: str = "full", **settings: object
) -> ShardedLoader:
    chosen = config.parse([f"train.global_batch_size={batch}", *(f"train.{k}={v}" for k, v in settings.items())]).train
    count, own = local_shards(chosen, World(rank=rank, size=world_size))
    return ShardedLoader(split(samples), chosen, own, count, CPU, shuffle=shuffle)


@pytest.mark.parametrize("world_size", range(1, 9))
@pytest.mark.parametrize("samples", [1009, 640])
def test_shards_are_disjoint_and_cover_the_epoch(samples: int, world_size: int) -> None:
    seen: list[int] = []
    for rank in range(world_size):
        for (part,) in batches(samples, 64, rank, world_size).epoch(0):
            seen += numbers(part.inputs)
    assert sorted(seen) == list(range(samples))


@pytest.fixture(params=["full", "computed", "ahead", "blocks"])
def shuffle(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """data.shuffle; computed and gathered ahead as for much data; blocks of 7 samples in windows of 5."""
    if request.param == "computed":
        monkeypatch.setattr(Permutation.__init__, "__kwdefaults__", {"listed": 0})
        return "full"
    if request.param == "ahead":
        monkeypatch.setattr(loader, "AHEAD_BYTES", 0)
        return "full"
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 7 * 784)
    monkeypatch.setattr(blocks.BlockOrder.__init__, "__kwdefaults__", {"window": 5})
    return str(request.param)


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_every_world_size_sees_the_same_samples_in_the_same_steps(world_size: int, shuffle: str) -> None:
    alone = [set(numbers(part.inputs)) for (part,) in batches(1009, 64, 0, 1, shuffle).epoch(3)]
    assert set.union(*alone) == set(range(1009))
    together: list[set[int]] = [set() for _ in alone]
    for rank in range(world_size):
        for step, (part,) in enumerate(batches(1009, 64, rank, world_size, shuffle).epoch(3)):
            together[step] |= set(numbers(part.inputs))
    assert together == alone


def test_a_batch_of_64_is_shared_by_three_ranks() -> None:
    sizes = [[len(part.inputs) for (part,) in batches(640, 64, rank, 3).epoch(0)] for rank in range(3)]
    assert [tuple(step) for step in zip(*sizes, strict=True)][:2] == [(22, 21, 21), (21, 22, 21)]
    assert all(sum(step) == 64 for step in zip(*sizes, strict=True))


def test_the_short_last_batch_is_trained() -> None:
    chosen = batches(1009, 64, 0, 1)
    counts = [len(part.inputs) for (part,) in chosen.epoch(0)]
    assert counts == [64] * 15 + [49]
    assert [chosen.count(step) for step in range(16)] == counts


@pytest.mark.parametrize("start", [1, 7, 15])
def test_an_epoch_can_be_resumed_at_any_step(start: int, shuffle: str) -> None:
    whole = [numbers(part.inputs) for (part,) in batches(1009, 64, 1, 3, shuffle).epoch(1)]
    assert [numbers(part.inputs) for (part,) in batches(1009, 64, 1, 3, shuffle).epoch(1, start)] == whole[start:]


def test_a_resumed_epoch_asks_for_what_is_left_of_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    at = Permutation.at

    def remembered(order: Permutation, positions: Tensor) -> Tensor:
        asked.extend(positions.tolist())
        return at(order, positions)

    monkeypatch.setattr(Permutation, "at", remembered)
    list(batches(1009, 64, 0, 1).epoch(0, 14))
    assert asked == list(range(14 * 64, 1009))


@pytest.mark.parametrize("world_size", range(1, 9))
def test_bitwise_shards_do_not_depend_on_the_world(world_size: int) -> None:
    alone = [[numbers(part.inputs) for part in parts] for parts in batches(1009, 64, 0, 1, sync="bitwise").epoch(0)]
    dealt: list[list[list[int]]] = [[] for _ in alone]
    for rank in range(world_size):
        for step, parts in enumerate(batches(1009, 64, rank, world_size, sync="bitwise").epoch(0)):
            dealt[step] += [numbers(part.inputs) for part in parts]
    assert dealt == alone


def test_more_ranks_than_samples_in_a_batch() -> None:
    sizes = [[len(part.inputs) for (part,) in batches(10, 2, rank, 4).epoch(0)] for rank in range(4)]
    assert [sum(step) for step in zip(*sizes, strict=True)] == [2] * 5


def test_samples_arrive_as_they_are_stored() -> None:
    every = Split(torch.arange(256, dtype=torch.uint8).view(4, 8, 8), torch.tensor([0.5, 1.5, 2.5, 3.5]))
    ((batch,),) = ShardedLoader(every, schema.Train(global_batch_size=4), range(1), 1, CPU).epoch(0)
    order = Permutation(4, 0, 0).at(torch.arange(4))
    assert torch.equal(batch.inputs, every.inputs[order])
    assert torch.equal(batch.targets, every.targets[order])


def augmented(rank: int, world_size: int, start: int = 0, **settings: object) -> dict[int, list[int]]:
    """For each sample the numbers that an augmentation draws for it."""
    found = {}

    def augment(inputs: Tensor, targets: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        drawn = (draws[:, :2] * 256).to(torch.uint8)
        return torch.cat([inputs, drawn], 1), targets

    chosen = config.parse([f"train.{name}={value}" for name, value in settings.items()]).train
    shards, local = local_shards(chosen, World(rank=rank, size=world_size))
    batches = ShardedLoader(split(1009), chosen, local, shards, CPU, augment)
    for parts in batches.epoch(3, start):
        for batch in parts:
            for number, row in zip(numbers(batch.inputs), batch.inputs, strict=True):
                found[number] = row[-2:].tolist()
    return found


@pytest.mark.parametrize("sync", ["ddp", "bitwise"])
def test_augmentation_is_a_function_of_seed_epoch_and_sample(sync: str) -> None:
    alone = augmented(0, 1, sync=sync)
    assert len(alone) == 1009
    assert len({tuple(drawn) for drawn in alone.values()}) > 900
    for world_size in (3, 8):
        together: dict[int, list[int]] = {}
        for rank in range(world_size):
            together |= augmented(rank, world_size, sync=sync)
        assert together == alone
    resumed = augmented(0, 1, start=7, sync=sync)
    assert resumed == {number: alone[number] for number in resumed}
    assert augmented(0, 1, seed=1, sync=sync) != alone


@pytest.mark.parametrize("world_size", [1, 3])
def test_micro_batches_are_the_share_in_parts(world_size: int) -> None:
    for rank in range(world_size):
        whole = [numbers(part.inputs) for (part,) in batches(1009, 64, rank, world_size).epoch(0)]
        parts = [
            [numbers(p.inputs) for p in step]
            for step in batches(1009, 64, rank, world_size, micro_batch_size=10).epoch(0)
        ]
        assert [[one for part in step for one in part] for step in parts] == whole
        assert {len(part) for step in parts for part in step[:-1]} == {10}


@pytest.mark.parametrize("sync", ["ddp", "bitwise"])
@pytest.mark.parametrize("world_size", [1, 3, 5, 8])
def test_the_first_share_with_samples_is_marked(sync: str, world_size: int) -> None:
    """Batches of 6 do not begin with shard 0, and do not reach every shard."""
    marked: dict[int, list[bool]] = {}
    sizes: dict[int, list[int]] = {}
    for rank in range(world_size):
        for step, parts in enumerate(batches(100, 6, rank, world_size, sync=sync).epoch(0)):
            marked.setdefault(step, []).extend(part.is_first for part in parts)
            sizes.setdefault(step, []).extend(len(part.inputs) for part in parts)
    for step, flags in marked.items():
        first = next(shard for shard, size in enumerate(sizes[step]) if size)
        assert [shard for shard, flag in enumerate(flags) if flag] == [first]


def test_an_epoch_may_end_early() -> None:
    whole = [numbers(part.inputs) for (part,) in batches(1009, 64, 0, 1).epoch(0)]
    assert [numbers(part.inputs) for (part,) in batches(1009, 64, 0, 1).epoch(0, 3, 9)] == whole[3:9]
    assert len(list(batches(1009, 64, 0, 1).epoch(0, 0, 99))) == len(whole)


@pytest.mark.parametrize("sync", ["ddp", "bitwise"])
def test_the_augmented_bytes_do_not_depend_on_the_ranks_or_on_a_resume(sync: str) -> None:
    """What augmentation mixes within a micro-batch, too: where that is a shard, as in bitwise."""

    def augment(images: Tensor, labels: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        mixed = images.flip(0) if sync == "bitwise" else images
        return (images.float() * draws[:, :1] + mixed.float() * draws[:, 1:2]).byte(), labels

    def epoch(ranks: int, start: int) -> dict[tuple[int, int], list[list[int]]]:
        found: dict[tuple[int, int], list[list[int]]] = {}
        for rank in range(ranks):
            chosen = config.parse([f"train.sync={sync}"]).train
            count, own = local_shards(chosen, World(rank=rank, size=ranks))
            batches = ShardedLoader(split(1009), chosen, own, count, CPU, augment)
            for step, parts in enumerate(batches.epoch(1, start), start):
                for shard, part in zip(own, parts, strict=True):
                    key = (step, shard if sync == "bitwise" else 0)
                    found[key] = sorted(found.get(key, []) + part.inputs[:, :2].tolist())
        return found

    alone = epoch(1, 0)
    for ranks in (3, 8):
        assert epoch(ranks, 0) == alone
    numbers_of = [draws(0, number, torch.arange(9)) for number in (0, 1)]
    assert not torch.equal(*numbers_of)
    given: list[Tensor] = []

    def remember(images: Tensor, labels: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        given.append(draws)
        return images, labels

    batches = ShardedLoader(split(9), config.parse(["train.global_batch_size=9"]).train, range(1), 1, CPU, remember)
    for number in (0, 1):
        list(batches.epoch(number))
        assert torch.equal(given[-1].sort(0).values, numbers_of[number].sort(0).values)
    assert epoch(3, 7) == {key: value for key, value in alone.items() if key[0] >= 7}


def test_users_augmentations_run_in_the_training_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may draw from generators that are the process's, which the training thread seeds."""
    monkeypatch.setattr(loader, "AHEAD_BYTES", 0)
    names: set[str] = set()

    def noted(inputs: Tensor, targets: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        names.add(threading.current_thread().name)
        return inputs, targets

    chosen = config.parse([]).train
    assert len(list(ShardedLoader(split(1009), chosen, range(1), 1, CPU, noted).epoch(0))) == 16
    assert names == {threading.current_thread().name}


def test_large_samples_are_gathered_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    take = Split.take

    def noted(own: Split, indices: Tensor) -> tuple[Tensor, Tensor]:
        taken.append(len(indices))
        return take(own, indices)

    monkeypatch.setattr(Split, "take", noted)
    list(batches(1009, 16, 0, 1).epoch(0))
    assert max(taken) == 512
    taken.clear()
    monkeypatch.setattr(loader, "BYTES_AT_ONCE", 100 * 784)
    list(batches(1009, 16, 0, 1).epoch(0))
    assert max(taken) == 96
