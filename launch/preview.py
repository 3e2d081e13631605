"""What `launch.submit --dry-run` says beside the script, as far as a login node without torch knows it."""

import argparse
import os
import shlex
from pathlib import Path

from launch import job
from src import config
from src.run import layout
from src.run.layout import State

ROOT = Path(__file__).resolve().parent.parent
MOST = 10  # runs that are named, of an array
MINUTES = 10  # for a few steps


def runs(paths: list[Path]) -> list[str]:
    """A line for each run: whether it is new, or where it would go on."""
    lines = [f"run      {path} ({_so_far(path)})" for path in paths[:MOST]]
    return lines + [f"         ... {len(paths) - MOST} more ..."] * (len(paths) > MOST)


def _so_far(path: Path) -> str:
    if layout.read_status(path).get("state") == State.FINISHED:
        return "finished before: only more epochs would be trained"
    if not (saved := layout.newest_first(path / layout.CHECKPOINTS)):
        return "new"
    return f"resumes at step {int(saved[0].stem.removeprefix('step-'))}"


def trial(options: argparse.Namespace, places: dict[str, str | None], settings: list[str]) -> str:
    """The command for what only the nodes can say: the job's own dry run, on as many ranks, without the queue's wait
    for a long job. `places` are srun's options that say where, `settings` the job's, of an array its first task's.
    """
    given = places | {
        "mem": options.mem,
        "nodes": options.nodes,
        "ntasks-per-node": options.gpus_per_node or options.ranks_per_node or options.cpus_per_node or 1,
        "gpus-per-node": options.gpus_per_node,
        "time": MINUTES,
    }
    words = ["srun", *(f"--{name}={value}" for name, value in given.items() if value is not None)]
    if options.image:
        words += ["apptainer", "exec", "--nv", "--bind", str(ROOT), "--pwd", str(ROOT), options.image, "python"]
    else:
        words += shlex.split(os.environ.get("PYTHON") or ".venv/bin/python")
    words += ["-m", "src.train", config.DRY_RUN, job.NO_FALLBACK, *settings]
    return f"try it   {shlex.join(words)}    # what the ranks{' of the first task' * bool(options.array)} would do"
