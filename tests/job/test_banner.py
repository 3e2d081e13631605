"""What the first lines of a job say of its batches."""

import pytest
from torch import nn

from src import schema
from src.job.banner import norm_share
from src.world.world import World


@pytest.mark.parametrize(
    ("settings", "ranks", "said"),
    [
        ({}, 1, ""),
        ({}, 2, "each rank's share alone, 32 samples: other numbers of ranks train otherwise"),
        ({"micro_batch_size": 8}, 2, "each micro-batch alone, 8 samples"),
        ({"micro_batch_size": 64}, 1, ""),
        ({"sync": "bitwise", "shards": 8}, 2, "each of 8 shards alone, 8 samples"),
    ],
)
def test_over_which_samples_batchnorm_normalises(settings: dict[str, object], ranks: int, said: str) -> None:
    train = schema.Train(global_batch_size=64, **settings)  # type: ignore[arg-type]
    assert norm_share(nn.Sequential(nn.BatchNorm1d(3)), train, World(size=ranks)) == said
    assert norm_share(nn.Linear(3, 3), train, World(size=ranks)) == ""
