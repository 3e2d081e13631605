"""Votes to stop, which reach every rank, and the seed of each step's random numbers."""

from pathlib import Path

import torch

from src import schema
from src.data.loader import ShardedLoader
from src.gradients import build as gradients
from src.gradients import step as step_room
from src.world.world import World
from tests.helpers.bare_models import bce
from tests.helpers.gradient_steps import BATCH, CPU, split, tutorial
from tests.helpers.ranks import in_world


def test_votes_reach_every_rank(tmp_path: Path) -> None:
    def work(world: World) -> list[bool]:
        chosen = schema.Train(global_batch_size=BATCH)
        number, own = gradients.local_shards(chosen, world)
        batches = ShardedLoader(split(), chosen, own, number, CPU)
        way = gradients.build_gradients(tutorial(), bce, chosen, world)
        totals = (
            way.forward_backward(parts, step, world.rank == 1 and step == 1)
            for step, parts in enumerate(batches.epoch(0))
        )
        return [total.should_stop(step) for step, total in enumerate(totals)]

    assert in_world(3, work, tmp_path).values == [[False, True, False]] * 3


def test_votes_on_a_gpu_are_read_every_few_steps() -> None:
    """Reading a tensor waits for the GPU, so it is done every GPU_LOOK_STEPS steps."""
    wanted = step_room.StepResult(torch.tensor(0.0), torch.tensor(2.0), torch.tensor(1.0))
    steps = [step for step in range(1, 40) if wanted.should_stop(step)]
    assert steps == [step_room.GPU_LOOK_STEPS, 2 * step_room.GPU_LOOK_STEPS]
    assert not step_room.StepResult(torch.tensor(0.0), torch.tensor(0.0), torch.tensor(1.0)).should_stop(
        step_room.GPU_LOOK_STEPS
    )


def test_random_numbers_are_a_function_of_seed_step_and_shard() -> None:
    def drawn(seed: int, step: int, shard: int) -> list[float]:
        torch.rand(step + 1)  # whatever was drawn before
        step_room.Seed(seed, torch.device("cpu")).set(step, shard)
        return torch.rand(4).tolist()

    assert drawn(0, 5, 3) == drawn(0, 5, 3)
    numbers = [drawn(seed, step, shard) for seed in (0, 1, 2**32, 2**62) for step in range(5) for shard in range(8)]
    assert len({tuple(one) for one in numbers}) == 4 * 5 * 8
