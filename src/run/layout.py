"""A run's folder, as the job, its launchers and its readers share it: names, status.json, exit codes, stop reasons.

Imports no torch: launchers use it on a login node.
"""

import enum
import json
import os
from pathlib import Path
from typing import Any

from src import config, schema
from src.run import seal
from src.schema import Config

CONFIG = "config.yaml"
PROVENANCE = "provenance.json"
STATUS = "status.json"
METRICS = "metrics.jsonl"
EVENTS = "events.jsonl"
STOP = "STOP"
CHECKPOINTS = "checkpoints"
REPORT = "report.html"

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


class StopReason(enum.StrEnum):
    """Why the ranks agreed to stop before the end; `reason` in status.json."""

    SIGTERM = "SIGTERM"
    SIGINT = "SIGINT"
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
    """The data set and the fingerprint of the settings that shape the result."""
    return f"{settings.data.name}-{schema.fingerprint(settings)}"


def read_status(path: Path) -> dict[str, Any]:
    """What status.json of the run's folder says, {} if there is none or it cannot be read."""
    try:
        content = json.loads((path / STATUS).read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_finished(path: Path, settings: Config) -> bool:
    """Whether the run was trained to the end with these settings, and its last checkpoint is whole."""
    status = read_status(path)
    if status.get("state") != State.FINISHED or status.get("epoch", 0) < settings.train.epochs:
        return False
    if schema.shaping(config.load(path / CONFIG)) != schema.shaping(settings):
        return False
    return seal.is_whole(checkpoint(path, status.get("step", 0)))


def checkpoint(path: Path, step: int) -> Path:
    """The checkpoint of a step."""
    return path / CHECKPOINTS / f"step-{step:08d}.pt"


def finished_line(path: Path) -> str:
    """What the job and its launchers say of a run with nothing left to do."""
    return f"{path}: is finished; train.epochs= prolongs it, checkpoint.resume=never repeats it"
