"""A run's copy at W&B beside its own record."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from src.run import jsonl
from src.tracking import wandb_uploader

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}


def environment(home: Path, **extra: str) -> dict[str, str]:
    """No key, no netrc, no W&B variable of whoever runs the tests."""
    return CLEAN | {"HOME": str(home), "OMP_NUM_THREADS": "1"} | extra


def expected(run: Path) -> list[dict[str, Any]]:
    """What W&B should have of metrics.jsonl."""
    return [wandb_uploader.as_metrics(line) for line in jsonl.read(run / "metrics.jsonl")]


def received(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What it has, without its own columns and the pictures at the end."""
    plain = [{name: value for name, value in line.items() if not name.startswith("_")} for line in history]
    return [line for line in plain if "epoch" in line]


def identity(run: Path) -> str:
    return (run / "wandb" / "id").read_text().strip()


def offline(run: Path) -> list[dict[str, Any]]:
    """The history in all offline pieces, in order."""
    found = []
    for piece in sorted((run / "wandb").glob("offline-run-*/run-*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(piece)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        found += [record["history"]["item"] for record in records if record["type"] == "history"]
    return found
