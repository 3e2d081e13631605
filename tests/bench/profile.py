"""Where the time goes: the job itself on one rank, with a clock around each of its parts, into docs/benchmarks.md."""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from src import config, train
from src.data.order import Permutation
from src.job import Job, prepare
from src.world.world import World
from tests.bench.page import conditions, table, write

EPOCHS, STEPS = 3, 938
Spent = dict[str, list[float]]  # by part: seconds of processor time, seconds
PARTS = {
    "gradient": "the gradient: scaling, forward, loss, backward",
    "batch": "the batches: rows copied",
    "optimizer": "weights moved",
    "permutation": "an epoch's permutation",
    "record": "lines of metrics.jsonl (log.every=100)",
    "console": "lines on the console, a file (log.seconds=2)",
    "evaluation": "evaluation (10,000 images)",
    "checkpoint": "checkpoints (a file an epoch, and the name of the best)",
    "else": "all else in the loop: votes, counts, Python",
}


def main() -> None:
    """Measure in turns and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="data", help="torchvision's data folder, with MNIST in it")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # what a rank has
    logs, bars = [], []
    for _ in range(chosen.rounds):
        logs.append(clocked(chosen.root, False))
        bars.append(clocked(chosen.root, True))
    rows = [row(text, logs, part) for part, text in PARTS.items()]
    rows.insert(-1, row("... and the progress bar of a terminal instead", bars, "console"))
    text = conditions(f"1 rank, default recipe, {EPOCHS} epochs, medians of {chosen.rounds} turns")
    write("profile", text + table(["part", "us of a step", "ms of an epoch", "... with waits"], rows))


def row(text: str, turns: list[Spent], part: str) -> list[str]:
    """A line of the table."""
    busy, whole = (statistics.median(turn[part][clock] for turn in turns) for clock in (0, 1))
    return [text, f"{busy / EPOCHS / STEPS * 1e6:.1f}", f"{busy / EPOCHS * 1e3:.1f}", f"{whole / EPOCHS * 1e3:.1f}"]


def now() -> tuple[float, float]:
    """(seconds that this thread has computed, seconds that have passed): others' load is in the second alone."""
    return time.thread_time(), time.perf_counter()


def clocked(root: str, terminal: bool) -> Spent:
    """What each part took in one run of the job, its console a file or a terminal."""
    spent = {part: [0.0, 0.0] for part in PARTS}
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as screen:
        vars(screen)["isatty"] = lambda: terminal
        before, sys.stdout = sys.stdout, screen
        try:
            job = prepared(root, folder, spent)
            began = now()
            train.train(job)
            whole = [end - start for end, start in zip(now(), began, strict=True)]
        finally:
            sys.stdout = before
    for clock in (0, 1):
        spent["else"][clock] = whole[clock] - sum(one[clock] for one in spent.values())
    return spent


def prepared(root: str, folder: str, spent: Spent) -> Job:
    """The job, with clocks."""
    settings = [f"data.root={root}", "data.fallback=none", f"run.root={folder}", f"train.epochs={EPOCHS}"]
    job = prepare(config.parse([*settings, "track.wandb=disabled"]), World())
    assert job is not None

    def clock(part: str, owner: Any, name: str) -> None:
        setattr(owner, name, timed(unclocked.setdefault((id(owner), name), getattr(owner, name)), part, spent))

    clock("gradient", job.gradients, "forward_backward")
    clock("batch", job.batches, "_gather")
    clock("optimizer", job.state.optimizer, "step")
    clock("permutation", Permutation, "__init__")
    clock("record", job.tracker, "_write")
    clock("console", job.console, "training")
    clock("evaluation", job, "evaluate")
    clock("checkpoint", job.checkpoints, "save")
    return job


unclocked: dict[tuple[int, str], Callable[..., Any]] = {}


def timed(call: Callable[..., Any], part: str, spent: Spent) -> Callable[..., Any]:
    """The same call, adding what it takes to its part."""

    def timing(*arguments: Any, **named: Any) -> Any:
        began = now()
        result = call(*arguments, **named)
        for clock, (end, start) in enumerate(zip(now(), began, strict=True)):
            spent[part][clock] += end - start
        return result

    return timing


if __name__ == "__main__":
    main()
