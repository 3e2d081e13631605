"""Fixed shards, added in a fixed order: the same bits on any number of ranks."""

from pathlib import Path

import pytest
import torch
from torch import nn

from src import schema
from src.errors import UserError
from src.gradients import bitwise
from src.gradients import build as gradients
from src.world.world import World
from tests.helpers.bare_models import bce
from tests.helpers.gradient_steps import steps, tutorial
from tests.helpers.ranks import in_world


@pytest.mark.parametrize("exchange", ["auto", "backend"])
def test_bitwise_bits_do_not_depend_on_the_world(exchange: str, tmp_path: Path) -> None:
    work = steps(tutorial, "train.sync=bitwise", f"train.exchange={exchange}")
    alone = in_world(1, work, tmp_path).values[0]
    for world_size in (2, 3, 8):
        for found, losses, _ in in_world(world_size, work, tmp_path).values:
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, alone[0], strict=True))
            assert losses == alone[1]


def test_dropout_draws_the_same_in_every_world(tmp_path: Path) -> None:
    def dropping() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(784, 10))

    work = steps(dropping, "train.sync=bitwise")
    (alone, _, _) = in_world(1, work, tmp_path).values[0]
    (together, _, _) = in_world(3, work, tmp_path).values[2]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(together, alone, strict=True))
    assert not torch.equal(alone[0], alone[1])


def test_batch_norm_is_refused_in_bitwise() -> None:
    module = nn.Sequential(nn.BatchNorm1d(784), nn.Linear(784, 10))
    with pytest.raises(UserError, match=r"train.sync=bitwise: the model has buffers \(0.running_mean"):
        gradients.build_gradients(module, bce, schema.Train(sync="bitwise"), World())


def test_slots_are_added_in_their_order() -> None:
    """Addition of floats is not associative: another order has other bits."""
    slots = [torch.tensor([value]) for value in (1e8, 1.0, -1e8, 1.0)]
    total = torch.zeros(1)
    assert bitwise.Local().sum(slots, [(0.5, 1.0, 3.0)] * 4, total) == [2.0, 4.0, 12.0]
    assert total.item() == ((torch.tensor(1e8) + 1) + torch.tensor(-1e8) + 1).item() == 1.0


def test_slots_of_all_ranks_through_the_backend(tmp_path: Path) -> None:
    def work(world: World) -> tuple[list[float], list[float]]:
        own = range(2) if world.rank == 0 else range(2, 3)
        exchange = bitwise.AllGather(world, 3, own, "gloo")
        values = (1e8, 1.0, -1e8)
        total = torch.zeros(1)
        sums = exchange.sum([torch.tensor([values[slot]]) for slot in own], [(slot, 1.0, 2.0) for slot in own], total)
        return total.tolist(), sums

    assert in_world(2, work, tmp_path).values == [([0.0], [3.0, 3.0, 6.0])] * 2
