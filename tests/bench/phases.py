"""launch.torchrun with clocks: python -m tests.bench.phases ... adds a line to the file MARKS for each phase that ends.

A line has the time, the rank ("-" is torchrun) and the phase.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import torch.distributed
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SubprocessContext

from launch import torchrun
from launch.one_host import OneHost
from src import config, leaving, train
from src.data import dataset
from src.job import building
from src.run.checkpoint import Checkpoints
from src.run.run import Run
from src.run.state import TrainState
from src.world import world
from src.world.lost_ranks import LostRanks

PHASES: list[tuple[Any, str]] = [
    (LostRanks, "first_cause"),
    (SubprocessContext, "_close"),
    (OneHost, "next_rendezvous"),
    (LocalElasticAgent, "_start_workers"),
    (config, "parse"),
    (world, "open_store"),
    (torch.distributed, "init_process_group"),
    (dataset, "load"),
    (Run, "open"),
    (Checkpoints, "resume"),
    (building, "prepare"),
    (TrainState, "update"),
    (train, "train"),
    (train, "main"),
]


def main() -> None:
    """Run the job with clocks."""
    for owner, name in PHASES:
        setattr(owner, name, clocked(name, getattr(owner, name)))
    torchrun.main()


def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which marks when it begins and ends; a step's does so once in a process."""
    seen: set[int] = set()

    def inner(*arguments: Any, **named: Any) -> Any:
        if name == "update" and os.getpid() in seen:
            return function(*arguments, **named)
        seen.add(os.getpid())
        mark(f"> {name}")
        try:
            return function(*arguments, **named)
        finally:
            mark(f"< {name}")

    return inner


def mark(phase: str) -> None:
    """Add a line."""
    with open(os.environ["MARKS"], "a") as stream:
        stream.write(f"{time.time():.4f} {os.environ.get('RANK', '-')} {phase}\n")


if __name__ == "__main__":
    leaving.run_and_leave(main)
