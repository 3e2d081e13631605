"""A dead or stopped rank is detected and named."""

import os
import re
import signal
import time
from pathlib import Path

import torch

from src import schema
from src.errors import PeerLost
from src.gradients.build import tree_of
from src.gradients.shared_memory import SharedMemory
from src.world import world as distributed
from src.world.world import World
from tests.helpers.ranks import fork


def end(world: World, how: signal.Signals, timeout: float) -> str:
    """Sum again and again; rank 1 sends itself the signal in the 20th round. Returns what rank 0 then raises."""
    memory = SharedMemory(world, tree_of(schema.Train(), world.size), timeout)
    mine = torch.zeros(10)
    for turn in range(1000):
        if world.rank == 1 and turn == 20:
            os.kill(os.getpid(), how)
            time.sleep(60)
        try:
            memory.sum([mine], [(0.0, 0.0, 0.0)], mine)
        except PeerLost as error:
            return str(error)
    return ""


def test_a_dead_peer_is_noticed_and_named(tmp_path: Path) -> None:
    def work() -> str:
        with distributed.join(schema.Train(timeout_seconds=30)) as world:
            said = end(world, signal.SIGKILL, 30)
            os.write(1, said.encode())
            os._exit(0)

    job = fork(2, work, tmp_path)
    assert re.fullmatch(r"rank 1 \(pid \d+\) died", job.output), "a timeout would say that it did not come"


def test_a_stopped_peer_is_named_within_a_second(tmp_path: Path) -> None:
    def work() -> str:
        with distributed.join(schema.Train(timeout_seconds=30)) as world:
            pids = world.all_gather(os.getpid())
            said = end(world, signal.SIGSTOP, 1)
            os.kill(pids[1], signal.SIGKILL)
            os.write(1, said.encode())
            os._exit(0)

    job = fork(2, work, tmp_path)
    assert "waiting for rank 1: pid " in job.output
    assert "rank 1 did not come within 1 s: pid " in job.output
    assert job.output.endswith("is stopped")
