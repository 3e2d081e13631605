"""The run directory: its name, and the records that tell what the run is and how it is."""

import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from src import config, schema
from src.data.dataset import DataSet
from src.errors import UserError
from src.run.jsonl import Lines
from src.run.lock import hold
from src.run.progress import Progress
from src.run.provenance import device_name, provenance
from src.schema import Config
from src.world.world import World, hosts

STOP = "STOP"


def directory(settings: Config) -> Path:
    """Where the run is: a given name, or one that says what is trained and differs where the result would."""
    return Path(settings.run.root) / (settings.run.name or default_name(settings))


def default_name(settings: Config) -> str:
    """The data set and the fingerprint of the settings that shape the result."""
    return f"{settings.data.name}-{schema.fingerprint(settings)}"


def on(settings: Config, data: DataSet) -> Config:
    """The settings with the data set that is really trained on, and with the run's name.

    Where that is not the one asked for, the name says so.
    """
    asked = settings.data.name
    settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, name=data.name))
    name = settings.run.name or default_name(settings)
    if asked != data.name:
        name = name.replace(data.name, f"{data.name}-not-{asked}", 1) if not settings.run.name else name
        name = name if f"not-{asked}" in name else f"{name}-{data.name}-not-{asked}"
    return dataclasses.replace(settings, run=dataclasses.replace(settings.run, name=name))


class Run:
    """The run directory, held by this job. Rank 0 writes; on the others every method does nothing."""

    def __init__(self, path: Path, world: World, settings: Config, warn: Callable[[str], None]) -> None:
        self.path, self._first, self._warn = path, world.rank == 0, warn
        self._world, self._settings = world, settings
        self._status: dict[str, Any] = {}
        self._before: dict[str, Any] = {}
        self._lock: int | None = None
        self.events: Lines | None = None
        self.provenance: dict[str, Any] = {}

    @property
    def facts(self) -> dict[str, Any]:
        """What status.json says (rank 0)."""
        return dict(self._status)

    def open(self, data: DataSet) -> None:
        """Take the directory and write down what runs. Called by all ranks; raises UserError on all."""
        everywhere = hosts(self._world)
        devices = self._world.gather(device_name(self._world.device))
        self._first_writes(lambda: self._take(provenance(everywhere, devices, data)))

    def _first_writes(self, write: Callable[[], None]) -> None:
        """Run `write` on rank 0; UserError on all ranks where the directory cannot be written."""

        def decide() -> None:
            try:
                write()
            except OSError as error:
                raise UserError(
                    f"run.root={self._settings.run.root}: {self.path} cannot be written ({error.strerror})",
                    fix="make room there, or name another folder with run.root=",
                ) from None

        self._world.first_decides(decide)

    def _take(self, facts: dict[str, Any]) -> None:
        self.provenance = facts
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = hold(self.path)
        if self._settings.checkpoint.resume == "never":
            self._set_aside()
        self.refuse_contradiction()
        (self.path / "checkpoints").mkdir(exist_ok=True)
        self._before = read_status(self.path)
        self.events = Lines(self.path / "events.jsonl", self._warn)

    def _write_down(self) -> None:
        """What runs from now on. Not before everything is agreed: a refused command leaves no trace."""
        (self.path / STOP).unlink(missing_ok=True)
        write_whole(self.path / "config.yaml", config.as_yaml(self._settings))
        write_whole(self.path / "provenance.json", json.dumps(self.provenance, indent=2) + "\n")

    def _set_aside(self) -> None:
        """checkpoint.resume=never: an earlier run of this name keeps its files, under another name."""
        if not (self.path / "config.yaml").exists():
            return
        aside = self.path.with_name(f"{self.path.name}.{time.strftime('%Y%m%d-%H%M%S')}")
        os.rename(self.path, aside)
        self._warn(f"checkpoint.resume=never: the earlier run is now {aside}")
        self.path.mkdir()
        os.close(self._lock or 0)
        self._lock = hold(self.path)

    def refuse_contradiction(self) -> None:
        """Raise UserError if the run was started with other settings that shape the result."""
        file = self.path / "config.yaml"
        if not file.exists():
            return
        now = schema.shaping(self._settings)
        then = schema.shaping(config.load(file))
        changed = [
            f"{name} {then.get(name, 'unset')} -> {now.get(name, 'unset')}"
            for name in sorted(then.keys() | now.keys())
            if then.get(name) != now.get(name)
        ]
        if changed:
            raise UserError(
                f"run.name={self.path.name}: was started with other settings ({'; '.join(changed)})",
                fix="give the old ones, another run.name, or checkpoint.resume=never",
            )

    def begin(self, progress: Progress, source: str) -> str:
        """Note the start, or from which step and world size it goes on; returns that for the banner.

        Called by all ranks; raises UserError on all.
        """
        self._first_writes(self._write_down)
        step = progress.step
        before = self._before.get("world_size") if source == "own" else None
        resized = "" if before in (None, self._world.size) else f", {before} ranks before"
        if source == "own":
            self.event("resume", step=step, world_size_before=before)
        else:
            self.event("start", step=step, weights=source or None)
        self.status("running", epoch=progress.epoch, step=step)
        return {"": " (new)", "own": f" (resumed at step {step}{resized})"}.get(source, f" (weights of {source})")

    def was(self, state: str) -> bool:
        """Whether the run was in this state before this job; the same on all ranks."""
        return self._world.first_decides(lambda: self._before.get("state") == state)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever ends the block badly is written into status.json."""
        try:
            yield
        except BaseException as error:
            self.event("failed", reason=str(error))
            self.status("failed", reason=str(error))
            raise

    def event(self, event: str, **facts: Any) -> None:
        """Append to events.jsonl what happened, when, and on how many ranks."""
        if self.events is not None:
            job = os.environ.get("SLURM_JOB_ID") or os.environ.get("TORCHELASTIC_RUN_ID", "")
            when = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            self.events.append(time=when, event=event, **facts, world_size=self._world.size, job=job)

    def status(self, state: str, **facts: Any) -> None:
        """Replace status.json, the contract with launchers; facts once given stay."""
        if not self._first or self.events is None:
            return
        if state != "failed":
            self._status.pop("reason", None)
        self._status.update(facts, state=state, world_size=self._world.size, data=self._settings.data.name)
        file, text = self.path / "status.json", json.dumps(self._status, indent=2) + "\n"
        try:
            write_whole(file, text)
        except OSError as error:
            self._warn(f"{file}: {error.strerror}; training goes on")
            _write_over(file, text)


def read_status(path: Path) -> dict[str, Any]:
    """What status.json of the run directory says, {} if there is none."""
    try:
        content = json.loads((path / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_whole(file: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new, never half of it."""
    temporary = file.with_name(f".{file.name}.part")
    try:
        with temporary.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


def _write_over(file: Path, text: str) -> None:
    """On a full disk: into the space that the file has. A reader may see half: better than what is not true."""
    with suppress(OSError), file.open("r+") as stream:
        stream.write(text)
        stream.truncate()
