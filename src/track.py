"""Send runs to Weights & Biases: python -m src.track push runs/NAME [runs/OTHER ...]

Sends all of metrics.jsonl, as one run under the run's id, whatever was sent before: it can be repeated, and doubles
nothing.
"""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

if not __package__:  # `python src/track.py`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import config, files, interrupts, leaving, limits
from src.console import one_line_errors
from src.errors import JobFailed, UserError
from src.run import layout
from src.run.lock import hold
from src.schema import Config
from src.tracking import account
from src.tracking.wandb_uploader import Pictures, WandbUploader

LEAST_SECONDS = 60.0  # training must not wait longer than its track.timeout_seconds; here somebody waits for just this


def push(path: Path) -> str:
    """Send one run; returns what to print. Raises UserError for what is no run, JobFailed where W&B fails."""
    settings = layout.load_settings(path)
    if not account.has_key():
        raise UserError("no W&B key is set up: run `wandb login`, or set WANDB_API_KEY")
    try:
        lock = hold(path)  # while a job trains here, or another push sends, lines would arrive twice
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}), and W&B needs to: push a copy of it") from None
    try:
        return _send(path, settings)
    finally:
        os.close(lock)


def _send(path: Path, settings: Config) -> str:
    patience = max(settings.track.timeout_seconds, LEAST_SECONDS)
    track = dataclasses.replace(settings.track, wandb="online", timeout_seconds=patience)
    facts = config.as_dict(settings) | {"provenance": layout.read_provenance(path)}
    uploader = WandbUploader(path, track, facts, print)
    uploader.only_online = True
    uploader.end(layout.read_status(path), _pictures(path))
    uploader.run()
    if uploader.failed:
        raise JobFailed(f"{path}: W&B: {uploader.failed}; nothing is lost, push it again")
    return f"{path}: {uploader.lines_sent} lines sent, the rest was there ({uploader.url})"


def _pictures(path: Path) -> Pictures | None:
    """What needs weights and data; None, and a line on stderr, where they are not here."""
    with limits.loading("torch"):  # --help does not wait for it
        from src.evaluation.measure import evaluate
        from src.run import trained
        from src.tracking.pictures import pictures

    try:
        run = trained.load(path, model_file=layout.model_copy(path))
        dataset = trained.test_of(run)
    except (UserError, JobFailed) as error:
        print(f"{path}: without pictures: {error}", file=sys.stderr)
        return None
    metrics = evaluate(run.model, run.module, dataset.test)
    return pictures(run.model, run.module, dataset.spec, dataset.test, metrics)


def main() -> None:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m src.track", description=__doc__, formatter_class=raw)
    parser.add_argument("command", choices=["push"])
    parser.add_argument("runs", nargs="+", type=files.path, metavar="RUN")
    chosen = parser.parse_args()
    with one_line_errors():
        interrupts.exit_on_signal()
        account.forget_other_runs()
        for path in chosen.runs:
            print(push(path))


if __name__ == "__main__":
    leaving.run_and_leave(main)
