"""DistributedDataParallel: sums instead of averages, and unused parameters are refused."""

import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src import schema
from src.data.loader import ShardedLoader
from src.errors import UserError
from src.gradients import build as gradients
from src.world.world import World
from tests.helpers.bare_models import bce
from tests.helpers.gradient_steps import BATCH, CPU, STEPS, big_batch, split, steps, tutorial
from tests.helpers.ranks import in_world


class HalfUsed(nn.Module):
    """Has a layer that the loss does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.used, self.unused = nn.Linear(784, 10), nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.used(images)
        return logits


def test_unused_parameters(tmp_path: Path) -> None:
    def refused(world: World) -> str:
        with pytest.raises(UserError) as found:
            steps(HalfUsed)(world)
        return str(found.value)

    for found, _, _ in in_world(2, steps(HalfUsed, "train.sync=bitwise"), tmp_path).values:
        assert found[0].abs().sum() > 0
    said = "train.sync=ddp: the loss does not depend on parameters of the model (unused.weight, unused.bias); "
    assert all(value.startswith(said) for value in in_world(2, refused, tmp_path).values)


@pytest.mark.parametrize("exchange", ["auto", "backend"])
def test_every_rank_has_the_same_gradients_and_the_sum_of_the_losses(exchange: str, tmp_path: Path) -> None:
    """DDP would average over ranks whose shares differ: 50 samples on 3 ranks are 17, 17 and 16."""
    _, expected = big_batch(tutorial)
    values = in_world(3, steps(tutorial, f"train.exchange={exchange}"), tmp_path).values
    assert values[0][1] == pytest.approx(expected, rel=1e-5)
    for found, losses, _ in values[1:]:
        assert losses == values[0][1]
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, values[0][0], strict=True))


def test_seconds_of_waiting_are_counted(tmp_path: Path) -> None:
    def work(world: World) -> float:
        chosen = schema.Train(global_batch_size=BATCH)
        number, own = gradients.local_shards(chosen, world)
        batches = ShardedLoader(split(), chosen, own, number, CPU)
        way = gradients.build_gradients(tutorial(), bce, chosen, world)
        for step, parts in enumerate(batches.epoch(0)):
            if world.rank == 1 and step == 1:
                time.sleep(1)
            way.forward_backward(parts, step, False)
        return way.waited

    assert in_world(2, work, tmp_path).values[0] > 0


def test_each_rank_and_micro_batch_draws_its_own_random_numbers(tmp_path: Path) -> None:
    def work(world: World) -> list[int]:
        seeds = []

        def loss(module: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
            seeds.append(torch.initial_seed())
            return bce(module, inputs, targets)

        chosen = schema.Train(global_batch_size=BATCH, micro_batch_size=13)
        number, own = gradients.local_shards(chosen, world)
        way = gradients.build_gradients(tutorial(), loss, chosen, world)
        for step, parts in enumerate(ShardedLoader(split(), chosen, own, number, CPU).epoch(0)):
            way.forward_backward(parts, step, False)
        return seeds

    first, second = in_world(2, work, tmp_path).values
    assert len(first) > STEPS
    assert len({*first, *second}) == len(first) + len(second)
