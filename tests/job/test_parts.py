"""What a job and a dry run build alike: nothing is written, and the module is left as the seed made it."""

from pathlib import Path

import torch

from src import config
from src.data import dataset as datasets
from src.job import parts
from src.job.parts import Parts
from src.world.world import World


def built(small: str, *settings: str) -> Parts:
    chosen = config.parse(["data.name=idx", f"data.root={small}", "train.global_batch_size=32", *settings])
    world = World()
    return parts.build(*parts.chosen(chosen, datasets.load(chosen.data, world, print)), world)


def test_the_trial_of_the_model_leaves_what_the_seed_made(small: str) -> None:
    tried, untried = built(small), built(small, "train.rehearsal=false")
    pairs = zip(tried.module.state_dict().values(), untried.module.state_dict().values(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert tried.state.progress.step == 0


def test_a_run_has_its_name_and_its_validation_samples_held_out(small: str) -> None:
    made = built(small, "data.validation=0.25")
    assert made.settings.run.name.startswith("idx-")
    assert made.dataset.validation is not None
    whole = len(built(small).dataset.train)
    assert (len(made.dataset.validation), len(made.dataset.train)) == (whole // 4, whole - whole // 4)


def test_the_last_step_is_that_of_the_epochs_or_an_earlier_one(small: str) -> None:
    made = built(small, "train.epochs=3")
    assert made.last_step == 3 * made.batches.steps_per_epoch
    assert built(small, "train.epochs=3", "train.max_steps=5").last_step == 5


def test_nothing_is_written(small: str, tmp_path: Path) -> None:
    built(small, f"run.root={tmp_path}", "run.name=x").gradients()
    assert list(tmp_path.iterdir()) == []
