"""The parts that a job would build, and what it would begin with. Nothing is written."""

import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from src import files, job, model_file
from src.console import Console
from src.data import looking
from src.data.dataset import DataSet
from src.data.loader import ShardedLoader
from src.data.splits import Split
from src.errors import UserError
from src.gradients.build import Gradients, build_gradients
from src.gradients.step import make_repeatable
from src.models import Model
from src.run import layout, lock, run
from src.run.checkpoint import Checkpoints
from src.run.run import Run, Start
from src.run.state import TrainState
from src.run.store import Store
from src.schema import Config
from src.world.world import World


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the job would build; `lacking` is what it would do first about files that are missing."""

    settings: Config
    world: World
    dataset: DataSet
    lacking: str
    model: Model
    batches: ShardedLoader
    gradients: Gradients
    state: TrainState
    checkpoints: Checkpoints
    last_step: int
    path: Path
    begins: str

    @property
    def module(self) -> nn.Module:
        """The model."""
        return self.state.module

    @property
    def measured(self) -> Split:
        """The samples of an evaluation."""
        return self.dataset.validation or self.dataset.test


def build(settings: Config, world: World, console: Console) -> Parts:
    """As src.job.prepare, and nothing is written. Raises UserError."""
    make_repeatable(settings.train, world.device)
    dataset, lacking = looking.look(settings.data, world, console.print_any_rank)
    has_sums = not lacking and looking.is_checked(dataset, settings.data)
    dataset = dataset.held_out(settings.data.validation, settings.train.seed)
    settings = run.on(settings, dataset)
    model, module, trial = job.build_model(settings, dataset, world)
    folder = Run(layout.directory(settings), world, settings, console.warn)
    world.rank0_decides(lambda: _refuse(folder, settings))

    batches = job.batches_of(settings, dataset, model, world)
    state, last_step = job.state_of(settings, model, module, batches.steps_per_epoch)
    checkpoints = Checkpoints(folder, settings, world, dataset, console.warn)
    start = checkpoints.look(state, has_sums).start
    generators = model_file.imports(model.path) & {"random", "numpy"}
    own = model.gradients if model.has_gradients else None
    gradients = build_gradients(
        module, model.loss, settings.train, world, trial.stand_in, generators, trial.updated, own
    )
    return Parts(
        settings=settings,
        world=world,
        dataset=dataset,
        lacking=lacking,
        model=model,
        batches=batches,
        gradients=gradients,
        state=state,
        checkpoints=checkpoints,
        last_step=last_step,
        path=folder.path,
        begins=world.rank0_decides(lambda: _begins(start, folder.path, settings, state.progress.step, last_step)),
    )


def _refuse(folder: Run, settings: Config) -> None:
    """Raise the UserErrors of a folder that a job could not take."""
    if settings.checkpoint.resume != "never":
        folder.refuse_contradiction()
    if settings.checkpoint.mirror:
        Store(settings.checkpoint.mirror, "checkpoint.mirror")  # asks nobody, and refuses what cannot be one
    path = folder.path.absolute()
    reason = next(filter(None, map(files.in_the_way, (path, *path.parents))), "")
    if reason or not os.access(existing(path), os.W_OK):
        raise UserError(
            f"run.root={settings.run.root}: {folder.path} cannot be written{f' ({reason})' if reason else ''}",
            fix="name another folder with run.root=",
        )


def existing(path: Path) -> Path:
    """The folder, or the one above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _begins(start: Start, path: Path, settings: Config, step: int, last_step: int) -> str:
    """What the job would begin with, and who is in its way."""
    resume = settings.checkpoint.resume
    if start is Start.RESUMED:
        before = layout.read_status(path).get("world_size")
        is_done = step >= last_step or layout.is_finished(path, settings)
        text = "is finished" if is_done else f"goes on at step {step} of {last_step}, {before} ranks before"
    elif start is Start.WEIGHTS:
        text = f"new, with the weights of {resume}"
    else:
        is_renamed = resume == "never" and (path / layout.CONFIG).exists()
        text = "new; the earlier run would be renamed" if is_renamed else "new"
    text += f"; the mirror {settings.checkpoint.mirror} is not asked" if settings.checkpoint.mirror else ""
    return text + (f"; in use by {holder}" if (holder := lock.holder(path)) else "")
