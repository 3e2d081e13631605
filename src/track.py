"""Send a run's record to Weights & Biases: python -m src.track push runs/NAME [runs/OTHER ...]

All of it, as one run under the run's one id, whatever was sent before: it can be repeated, and doubles nothing.
"""

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from src import config
from src.console import one_line_errors
from src.data import dataset as data
from src.errors import JobFailed, UserError
from src.evaluation import evaluate
from src.run import trained
from src.run.layout import read_status
from src.run.lock import hold
from src.schema import Config
from src.tracking import account
from src.tracking.pictures import pictures
from src.tracking.wandb_uploader import WandbUploader
from src.world.world import World

LEAST_SECONDS = 60.0  # training must not wait longer than its track.timeout_seconds; here somebody waits for just this


def push(path: Path) -> str:
    """Send one run; returns what to tell. Raises UserError for what is no run, JobFailed where W&B fails."""
    if not (path / "config.yaml").exists():
        raise UserError(f"{path}: is no run (it has no config.yaml)")
    if not account.has_key():
        raise UserError("no W&B key is set up: run `wandb login`, or set WANDB_API_KEY")
    settings = config.load(path / "config.yaml")
    try:
        lock = hold(path)  # while a job trains here, or another push sends, lines would arrive twice
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}), and W&B needs to: push a copy of it") from None
    try:
        return _send(path, settings)
    finally:
        os.close(lock)


def _send(path: Path, settings: Config) -> str:
    provenance = json.loads((path / "provenance.json").read_text())
    patience = max(settings.track.timeout_seconds, LEAST_SECONDS)
    track = dataclasses.replace(settings.track, wandb="online", timeout_seconds=patience)
    copy = WandbUploader(path, track, config.as_dict(settings) | {"provenance": provenance}, print)
    copy.only_online = True
    copy.end(read_status(path), _pictures(path))
    copy.run()
    if copy.failed:
        raise JobFailed(f"{path}: W&B: {copy.failed}; nothing is lost, push it again")
    return f"{path}: {copy.news} lines sent, the rest was there ({copy.url})"


def _pictures(path: Path) -> Any:
    """What needs weights and data; None, and said, where they are not here."""
    try:
        run = trained.load(path)
        dataset = data.load(dataclasses.replace(run.settings.data, fallback="none"), World(), print)
    except (UserError, JobFailed) as error:
        print(f"{path}: without pictures: {error}", file=sys.stderr)
        return None
    metrics = evaluate(run.model, run.module, dataset.test)
    return pictures(run.model, run.module, dataset.spec, dataset.test, metrics)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m src.track", description=__doc__)
    parser.add_argument("command", choices=["push"])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    chosen = parser.parse_args()
    with one_line_errors():
        for path in chosen.runs:
            print(push(path))


if __name__ == "__main__":
    main()
