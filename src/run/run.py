"""The run's folder, held by this job: what the run is, what happened to it, and how it is."""

import dataclasses
import enum
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src import config, files, fingerprint, model_file
from src.data.dataset import DataSet
from src.errors import UserError
from src.run import layout, lock
from src.run.jsonl import Lines
from src.run.layout import State, StopReason, read_status
from src.run.mirror import Mirror
from src.run.progress import Progress
from src.run.provenance import device_name, provenance
from src.schema import Config
from src.world.world import World, hosts


class Start(enum.Enum):
    """What training begins with."""

    NEW = "new"  # freshly initialised weights
    RESUMED = "resumed"  # the run's own newest checkpoint: weights, optimizer, progress
    WEIGHTS = "weights"  # the weights of another checkpoint, named by checkpoint.resume


@dataclass(frozen=True)
class Origin:
    """What training begins with, and the checkpoint that it was read from."""

    start: Start
    file: str = ""


def on(settings: Config, dataset: DataSet) -> Config:
    """The settings with the data set that is really trained on, and with the run's name.

    Where that is not the one asked for, the name contains both.
    """
    asked = settings.data.name
    settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, name=dataset.name))
    name = settings.run.name or layout.default_name(settings)
    if asked != dataset.name:
        name = name.replace(dataset.name, f"{dataset.name}-not-{asked}", 1) if not settings.run.name else name
        name = name if f"not-{asked}" in name else f"{name}-{dataset.name}-not-{asked}"
    return dataclasses.replace(settings, run=dataclasses.replace(settings.run, name=name))


class Run:
    """The run's folder, held by this job. Rank 0 writes; on the others every method does nothing."""

    def __init__(
        self, path: Path, world: World, settings: Config, warn: Callable[[str], None], mirror: Mirror | None = None
    ) -> None:
        self.mirror = mirror or Mirror(path, settings, False, warn, warn)
        self.path, self._rank0, self._warn = path, world.rank == 0, warn
        self._world, self._settings = world, settings
        self._status: dict[str, Any] = {}
        self._before: dict[str, Any] = {}
        self._lock: int | None = None
        self._stopped: Callable[[], bool] = lambda: False
        self._warnings = files.Warnings(warn)
        self._writing = threading.RLock()  # a checkpoint is written beside the training
        self.events: Lines | None = None
        self.provenance: dict[str, Any] = {}

    @property
    def facts(self) -> dict[str, Any]:
        """The content of status.json (rank 0)."""
        return dict(self._status)

    def open(self, dataset: DataSet, stopped: Callable[[], bool] = lambda: False) -> None:
        """Take the folder. Called by all ranks; raises UserError on all, and TryAgain where another host holds it.

        `stopped` says whether to wait no longer for that host.
        """
        self._stopped = stopped
        everywhere = hosts(self._world)
        devices = self._world.all_gather(device_name(self._world.device))
        self._rank0_writes(
            lambda: self._take(provenance(everywhere, devices, dataset, config.model_path(self._settings.model)))
        )

    def _rank0_writes(self, write: Callable[[], None]) -> None:
        """Run `write` on rank 0; UserError on all ranks where the folder cannot be written."""

        def decide() -> None:
            try:
                write()
            except OSError as error:
                raise UserError(
                    f"run.root={self._settings.run.root}: {self.path} cannot be written ({files.reason(error)})",
                    fix=files.advice(error, "name another folder with run.root="),
                ) from None

        self._world.rank0_decides(decide)

    def _take(self, facts: dict[str, Any]) -> None:
        self.provenance = facts
        files.make_folder(self.path)
        self._lock = lock.hold(self.path, self._warn, self._stopped)
        if self._settings.checkpoint.resume == "never":
            self._set_aside()
        self.mirror.bring_back(self.refuse_contradiction)
        self.refuse_contradiction()
        files.make_folder(self.path / layout.CHECKPOINTS)
        self._before = read_status(self.path)
        self.events = Lines(self.path / layout.EVENTS, self._warn)

    def _write_down(self) -> None:
        """What runs from now on. Not before everything is agreed: a refused command leaves no trace."""
        for wish in (layout.STOP, layout.SAVE):  # of an earlier job
            (self.path / wish).unlink(missing_ok=True)
        self.mirror.write_down()
        files.write_text(self.path / layout.CONFIG, config.as_yaml(self._settings))
        model_file.copy(config.model_path(self._settings.model), self.path / layout.MODEL)
        files.write_text(self.path / layout.PROVENANCE, json.dumps(self.provenance, indent=2) + "\n")

    def _set_aside(self) -> None:
        """checkpoint.resume=never: an earlier run of this name keeps its files, under another name."""
        if not (self.path / layout.CONFIG).exists():
            return
        name = f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}"
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        aside = next(path for path in map(self.path.with_name, names) if not path.exists())  # the clock may go back
        os.rename(self.path, aside)
        self._warn(f"checkpoint.resume=never: the earlier run is now {aside}")
        self.path.mkdir()
        self._lock_again()

    def _lock_again(self) -> None:
        """Lock the folder that has this name now."""
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None
        self._lock = lock.hold(self.path, self._warn, self._stopped)

    def remake(self) -> None:
        """Where somebody has removed or renamed the folder: make it again, so that what is saved now can be resumed.

        For rank 0. Raises OSError, and UserError where another job has taken the name.
        """
        if lock.is_ours(self.path) and files.exists(self.path / layout.CONFIG):
            return
        files.make_folder(self.path)
        self._lock_again()
        self._write_down()
        self._warn(f"{self.path}: was removed or renamed while training; it is made again, without what it held")

    def refuse_contradiction(self, folder: Path | None = None) -> None:
        """Raise UserError if the run, or the copy of it in `folder`, was started with other settings that shape it."""
        folder = folder or self.path
        if not (folder / layout.CONFIG).exists():
            return
        now, then = fingerprint.shaping(self._settings), layout.recorded_shaping(folder)
        changed = [
            self._edited(folder)
            if name == fingerprint.CODE
            else f"{name} {then.get(name, 'unset')} -> {now.get(name, 'unset')}"
            for name in sorted(then.keys() | now.keys())
            if then.get(name) != now.get(name)
        ]
        if changed:
            raise UserError(
                f"run.name={self.path.name}: was started with another model or other settings ({'; '.join(changed)})",
                fix="give the old ones, another run.name, or checkpoint.resume=never",
            )

    def _edited(self, folder: Path) -> str:
        file, copy = config.model_path(self._settings.model), layout.model_copy(folder)
        copy = copy if folder == self.path else None  # it does not stay
        return f"{file} was edited" + (f": diff {copy} {file}" if copy else "")

    def begin(self, progress: Progress, origin: Origin, steps_per_epoch: int, last_step: int) -> str:
        """Write down the start, or from which step and world size training goes on; returns that for the banner.

        Called by all ranks; raises UserError on all.
        """
        self._rank0_writes(self._write_down)
        step, resumed = progress.step, origin.start is Start.RESUMED
        before = self._before.get("world_size") if resumed else None
        if resumed:
            self.event("resume", step=step, world_size_before=before)
        else:
            self.event("start", step=step, weights=origin.file or None)
        batch = self._settings.train.global_batch_size
        size = {"last_step": last_step, "steps_per_epoch": steps_per_epoch, "batch": batch}
        self.status(State.RUNNING, epoch=progress.epoch, step=step, **size)  # src.status --follow draws its bar by them
        if resumed:
            resized = "" if before in (None, self._world.size) else f", {before} ranks before"
            return f" (resumed at step {step}{resized})"
        return f" (weights of {origin.file})" if origin.start is Start.WEIGHTS else " (new)"

    def was_finished(self, progress: Progress) -> bool:
        """Whether the run was finished before this job, for as long, at this step; the same on all ranks."""
        wanted = {"state": State.FINISHED.value, "step": progress.step}

        def decide() -> bool:
            before = self._before
            is_there = {name: before.get(name) for name in wanted} == wanted
            return is_there and layout.is_enough(before, self._settings)

        return self._world.rank0_decides(decide)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever ends the block badly is written into status.json."""
        try:
            yield
        except BaseException as error:
            self.event("failed", reason=str(error))
            self.status(State.FAILED, reason=str(error))
            raise

    def event(self, event: str, **facts: Any) -> None:
        """Append to events.jsonl what happened, when, and on how many ranks."""
        if self.events is not None:
            job = os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID", "")
            when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            with self._writing:
                self.events.append(time=when, event=event, **facts, world_size=self._world.size, job=job)

    def preempted(self, reason: StopReason, progress: Progress) -> None:
        """The ranks agreed to stop before the end, and have saved."""
        self.event("stop", reason=reason, step=progress.step)
        self.status(
            State.PREEMPTED, epoch=progress.epoch, step=progress.step, reason=reason.value, restart=reason.restart
        )

    def status(self, state: State, **facts: Any) -> None:
        """Replace status.json, the contract with launchers; facts once given stay.

        `restart` says whether a launcher is to start the same command again, where it has come further.
        """
        if not self._rank0 or self.events is None:
            return
        with self._writing:
            if state is not State.FAILED:
                self._status.pop("reason", None)
            facts = {"restart": state is not State.FINISHED} | facts
            self._status.update(facts, state=state.value, world_size=self._world.size, data=self._settings.data.name)
            self._write_status()

    def _write_status(self) -> None:
        file, text = self.path / layout.STATUS, json.dumps(self._status, indent=2) + "\n"
        try:
            files.write_text(file, text)
            self._warnings.worked(str(file))
        except OSError as error:
            self._warnings.failed(str(file), error, "; training goes on")
            _write_over(file, text)


def _write_over(file: Path, text: str) -> None:
    """On a full disk: into the space that the file has. A reader may see half: better than what is not true."""
    with suppress(OSError), file.open("r+", encoding="utf-8") as stream:
        stream.write(text)
        stream.truncate()
