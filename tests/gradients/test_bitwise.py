"""Fixed shards, added in a fixed order: the same bits on any number of ranks."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from src.errors import UserError
from src.gradients.bitwise import PartialSums
from src.world.world import World
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


def test_a_checkpoint_that_calls_backward_itself_is_refused() -> None:
    class Recomputed(nn.Linear):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return checkpoint(super().forward, inputs.requires_grad_(), use_reentrant=True)

    with pytest.raises(UserError, match="use_reentrant=True; give use_reentrant=False"):
        steps(lambda: Recomputed(784, 10), "train.sync=bitwise")(World())


def test_an_empty_shard_adds_a_zero_as_it_does_on_a_rank_of_its_own() -> None:
    """-0 + 0 is 0: another number of ranks would have another sign, where the empty shard were left out."""
    parameter = nn.Parameter(torch.zeros(2))
    sums = PartialSums([parameter], 0, range(2), 2, torch.float32)
    sums.add([torch.tensor([-0.0, 1.0])], [1.0, 0.0, 1.0])
    sums.add_zeros([0.0, 1.0, 0.0])
    ((total,), (numbers,)) = sums.blocks()
    assert not torch.signbit(total).any()
    assert (total.tolist(), numbers) == ([0.0, 1.0], [1.0, 1.0, 1.0])
