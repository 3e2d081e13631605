"""What a job would build, and what it would begin with. Nothing is written."""

import os
from dataclasses import dataclass
from pathlib import Path

from src import files
from src.console import Console
from src.data import looking
from src.data.splits import Split
from src.errors import UserError
from src.gradients.build import Gradients
from src.job import parts
from src.job.parts import Parts
from src.run import layout, lock
from src.run.checkpoint import Checkpoints
from src.run.requests import Requests
from src.run.run import Run, Start
from src.run.saving import Saving
from src.run.store import Store
from src.schema import Config
from src.world.world import World


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the job would build; `lacking` is what it would do first about files that are missing."""

    parts: Parts
    lacking: str
    gradients: Gradients
    checkpoints: Checkpoints
    path: Path
    begins: str

    @property
    def measured(self) -> Split:
        """The samples of an evaluation."""
        return self.parts.dataset.validation or self.parts.dataset.test


def build(settings: Config, world: World, console: Console) -> Plan:
    """As src.job.prepare, and nothing is written. Called by all ranks; raises UserError."""
    found, lacking = looking.look(settings.data, world, console.print_any_rank)
    has_sums = not lacking and looking.is_checked(found, settings.data)
    settings, dataset = parts.chosen(settings, found)
    made = parts.build(settings, dataset, world)
    run = Run(layout.directory(settings), world, settings, console.warn)
    world.rank0_decides(lambda: _refuse(run, settings))
    not_asked = Requests(run.path / layout.SAVE, 0, rank0=False)
    checkpoints = Checkpoints(run, settings, world, dataset, console.warn, not_asked, Saving())
    start = checkpoints.look(made.state, has_sums).start
    step, last_step = made.state.progress.step, made.last_step
    return Plan(
        parts=made,
        lacking=lacking,
        gradients=made.gradients(),
        checkpoints=checkpoints,
        path=run.path,
        begins=world.rank0_decides(lambda: _begins(start, run.path, settings, step, last_step)),
    )


def _refuse(run: Run, settings: Config) -> None:
    """Raise the UserErrors of a folder that a job could not take."""
    if settings.checkpoint.resume != "never":
        run.refuse_contradiction()
    if settings.checkpoint.mirror:
        Store(settings.checkpoint.mirror, "checkpoint.mirror")  # asks nobody, and refuses what cannot be one
    path = run.path.absolute()
    reason = next(filter(None, map(files.in_the_way, (path, *path.parents))), "")
    if reason or not os.access(existing(path), os.W_OK):
        raise UserError(
            f"run.root={settings.run.root}: {run.path} cannot be written{f' ({reason})' if reason else ''}",
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
