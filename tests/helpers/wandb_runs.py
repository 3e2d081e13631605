"""Runs that are tracked, what W&B received of them, and what it should have."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

from src import track
from src import train as train_room
from src.run import jsonl
from src.tracking import wandb_uploader
from tests.helpers.commands import Command
from tests.helpers.wandb_server import TrackedRun

Done: TypeAlias = "subprocess.CompletedProcess[str]"
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}


def environment(home: Path, **extra: str) -> dict[str, str]:
    """An environment without the user's W&B key, netrc and variables."""
    return CLEAN | {"HOME": str(home), "OMP_NUM_THREADS": "1"} | extra


def expected(run: Path) -> list[dict[str, Any]]:
    """The history that W&B should have, from metrics.jsonl."""
    return [wandb_uploader.as_metrics(line) for line in jsonl.read(run / "metrics.jsonl")]


def received(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The history without W&B's own columns and without the images at the end."""
    plain = [{name: value for name, value in line.items() if not name.startswith("_")} for line in history]
    return [line for line in plain if "epoch" in line]


def identity(run: Path) -> str:
    return (run / "wandb" / "id").read_text().strip()


def offline(run: Path) -> list[dict[str, Any]]:
    """The history in all of the run's offline files, in order."""
    found = []
    for piece in sorted((run / "wandb").glob("offline-run-*/run-*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(piece)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        found += [record["history"]["item"] for record in records if record["type"] == "history"]
    return found


def start(small: str, home: Path, *settings: str, **extra: str) -> Command:
    fixed = ["data.name=idx", f"data.root={small}", f"run.root={home / 'runs'}", "run.name=x", "log.every=4"]
    return Command(train_room.main, [*fixed, "train.epochs=3", *settings], environment(home, **extra), home)


def train(small: str, home: Path, *settings: str, **extra: str) -> Done:
    return start(small, home, *settings, **extra).wait()


def push(run: Path, home: Path, **extra: str) -> Done:
    return Command(track.main, ["push", str(run)], environment(home, **extra), home / "push").wait()


def pictured(tracked: TrackedRun) -> dict[str, int]:
    """How many images or rows arrived under each name; fails if their files did not."""
    found = {}
    for name in ("templates", "confusion", "most_wrong"):
        entry = tracked.summary[name]
        paths = entry.get("filenames") or [entry["path"]]
        assert set(paths) <= tracked.files.keys()
        found[name] = entry.get("nrows") or len(paths)
    return found
