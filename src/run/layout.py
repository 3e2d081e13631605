"""A run's folder, as the job, its launchers and its readers share it: names, status.json, exit codes, stop reasons.

Imports no torch: launchers use it on a login node.
"""

import enum
import json
import os
from pathlib import Path
from typing import Any

from src import config, files, fingerprint
from src.errors import UserError
from src.run import seal
from src.schema import Config

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
STATUS = "status.json"
METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
STOP = "STOP"
SAVE = "SAVE"
CHECKPOINTS = "checkpoints"
BEST = "best.pt"  # in it: the second name of the best checkpoint
MODEL = "model"  # the copy of the model's file
MIRROR = "mirror.json"  # which run of its mirror it is
BROUGHT = "brought_back"  # in it: the step that came from the mirror, where the disk was empty or behind
TABLES = "tables"  # what is measured and is no single number
REPORT = "report.html"
COMPILED = "compiled"  # what torch.compile made, for the next start; there only where a model compiles

ELASTIC = "ELASTIC"  # variable that launch.torchrun sets where the number of hosts may change
RESTART = "restart"  # in a STOP file: stop now, and start again elsewhere


class ExitCode(enum.IntEnum):
    """What the job and its launchers leave with."""

    FINISHED = os.EX_OK
    FAILED = 1
    MISTAKE = 2  # of the user's, before anything was trained
    STOPPED = 3  # as the user asked: start it again only when the user says so
    TRY_AGAIN = os.EX_TEMPFAIL  # saved further than it began: the same command goes on
    INTERRUPTED = 130  # Ctrl-C, before there was anything to save


class State(enum.StrEnum):
    """`state` in status.json."""

    RUNNING = "running"
    FINISHED = "finished"
    PREEMPTED = "preempted"  # saved and stopped before its end
    FAILED = "failed"


class Ended(enum.StrEnum):
    """What ended the training before its last step: `ended` in status.json."""

    PATIENCE = "patience"  # train.patience epochs without an evaluation that was the best so far
    MODEL = "model"  # the `enough` of the model's file


class StopReason(enum.StrEnum):
    """Why the ranks agreed to stop before the end; `reason` in status.json."""

    SIGTERM = "SIGTERM"
    SIGINT = "SIGINT"
    SIGHUP = "SIGHUP"  # the terminal or the connection is gone
    SIGQUIT = "SIGQUIT"
    SIGXCPU = "SIGXCPU"  # the limit of CPU time
    SIGUSR1 = "SIGUSR1"
    SIGUSR2 = "SIGUSR2"
    STOP_FILE = "STOP file"
    STOP_FILE_RESTART = "STOP file: restart"
    MAX_MINUTES = "train.max_minutes"
    SLURM_TIME_LIMIT = "Slurm's time limit"

    @property
    def restart(self) -> bool:
        """Whether a launcher is to start the same command again; `restart` in status.json."""
        return self not in (StopReason.STOP_FILE, StopReason.MAX_MINUTES)

    @property
    def is_signal(self) -> bool:
        """Whether a signal to a rank was the reason."""
        return self.value.startswith("SIG")


def directory(settings: Config) -> Path:
    """The run's folder: run.name, or a name that differs where the trained weights would."""
    return Path(settings.run.root) / (settings.run.name or default_name(settings))


def default_name(settings: Config) -> str:
    """The data set and the fingerprint of the settings that shape the result.

    In a W&B sweep each trial is a run, also where two have drawn the same values: its id is a part of the name.
    """
    trial = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else ""
    return f"{settings.data.name}-{fingerprint.fingerprint(settings)}" + (f"-{trial}" if trial else "")


def read_status(path: Path) -> dict[str, Any]:
    """What status.json of the run's folder says, {} if there is none or it cannot be read."""
    numbers = ("step", "epoch", "world_size")
    content = _read_object(path / STATUS)
    return {name: value for name, value in content.items() if name not in numbers or isinstance(value, int)}


def _read_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def model_copy(path: Path) -> Path | None:
    """The copy of the model's file in the run's folder, None where there is none."""
    name = read_provenance(path).get("model", {}).get("file", "")
    copy = path / MODEL / name
    return copy if name and copy.is_file() else None


def read_provenance(path: Path) -> dict[str, Any]:
    """What provenance.json says, {} if there is none or it cannot be read."""
    return _read_object(path / PROVENANCE)


def read_mirror(path: Path) -> dict[str, Any]:
    """What mirror.json says, {} if there is none or it cannot be read."""
    return _read_object(path / MIRROR)


def load_settings(path: Path) -> Config:
    """The run's settings, those of its model read by the copy of the model's file. Raises UserError."""
    try:
        text = (path / CONFIG).read_text(errors="replace") if (path / CONFIG).is_file() else None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({files.reason(error)})", fix=files.advice(error)) from None
    if text is None:
        raise UserError(f"{path}: is no run (no {CONFIG} there)", fix="name the folder of a run, such as runs/NAME")
    if missing := [name for name in ("data", "model", "train", "optim", "run") if f"\n{name}:" not in f"\n{text}"]:
        raise UserError(  # what is missing would be a default, and the run another one
            f"{path / CONFIG}: is damaged (no section {missing[0]})",
            fix="restore it from a copy, or name the run's weights in a new run: checkpoint.resume=PATH",
        )
    return config.load(path / CONFIG, model_copy(path))


def recorded_shaping(path: Path) -> dict[str, Any]:
    """What the run's weights depend on, as it was started. Raises UserError."""
    return fingerprint.shaping(load_settings(path), read_provenance(path).get("model", {}).get("sha256", ""))


def is_finished(path: Path, settings: Config) -> bool:
    """Whether the run was trained to the end with these settings, and its last checkpoint is whole."""
    status = read_status(path)
    if status.get("state") != State.FINISHED or not is_enough(status, settings):
        return False
    if recorded_shaping(path) != fingerprint.shaping(settings):
        return False
    return seal.is_whole(checkpoint(path, status.get("step", 0)))


def is_enough(status: dict[str, Any], settings: Config) -> bool:
    """Whether the run was trained for as many epochs, or steps, as the settings want, or ended early by them."""
    epochs, steps, patience = settings.train.epochs, settings.train.max_steps, settings.train.patience
    if status.get("ended") == Ended.MODEL or 0 < patience <= int(status.get("patience", 0)):
        return True
    return int(status.get("epoch", 0)) >= epochs or 0 < steps <= int(status.get("step", 0))


def checkpoint(path: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return path / CHECKPOINTS / f"step-{step:08d}.pt"


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints step-N.pt of a folder by their number, not by their text."""
    numbered = {file: file.stem.removeprefix("step-") for file in folder.glob("step-*.pt")}
    return sorted(
        (file for file, step in numbered.items() if step.isascii() and step.isdigit()),
        key=lambda f: -int(numbered[f]),
    )


def newest_whole(path: Path) -> int:
    """The step of the run's newest checkpoint that is whole, 0 if it has none."""
    whole = (file for file in newest_first(path / CHECKPOINTS) if seal.is_whole(file))
    return next((int(file.stem.removeprefix("step-")) for file in whole), 0)


def finished_line(path: Path) -> str:
    """What the job and its launchers say of a run with nothing left to do."""
    return f"{path}: is finished; train.epochs= prolongs it, checkpoint.resume=never repeats it"
