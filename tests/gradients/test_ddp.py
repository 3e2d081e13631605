"""DistributedDataParallel: what the loss does not depend on is refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.config import UserError
from src.world.world import World
from tests.helpers.gradient_steps import steps
from tests.helpers.ranks import in_world


class HalfUsed(nn.Module):
    """A layer that nothing depends on, as after a careless edit."""

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
