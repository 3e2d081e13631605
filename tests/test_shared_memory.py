"""Summing through memory: rounds, sizes, and peers that die or stop."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from src import config, distributed, model
from src.config import UserError
from src.distributed import World
from src.gradients import build
from src.shared_memory import CAPACITY, PeerLost, SharedMemory, objection
from tests.ranks import fork, in_world


@pytest.mark.parametrize("length", [1, 7850, CAPACITY // 4, CAPACITY // 4 + 1, CAPACITY])
def test_sums_of_any_size_in_rank_order(length: int, tmp_path: Path) -> None:
    def work(world: World) -> None:
        memory = SharedMemory(world, world.size, range(world.rank, world.rank + 1), 10)
        for turn in range(3):
            rows = [torch.rand(length, generator=torch.Generator().manual_seed(turn * 10 + r)) for r in range(3)]
            mine = rows[world.rank].clone()
            notes = memory.sum([mine], [(world.rank + 0.5, turn)], mine)
            assert torch.equal(mine, rows[0] + rows[1] + rows[2])
            assert notes == [4.5, 3 * turn]

    in_world(3, work, tmp_path)


def test_other_types_and_lengths_in_turn(tmp_path: Path) -> None:
    def work(world: World) -> None:
        memory = SharedMemory(world, world.size, range(world.rank, world.rank + 1), 10)
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            for length in (10, 1000, 3):
                mine = torch.full((length,), world.rank + 1, dtype=dtype)
                memory.sum([mine], [(0.0, 0.0)], mine)
                assert torch.equal(mine, torch.full((length,), 3, dtype=dtype))

    in_world(2, work, tmp_path)


def end(world: World, how: signal.Signals | None) -> str:
    """Sum for ever; rank 1 ends in the 20th round, rank 0 tells how long it took to notice, and what."""
    memory = SharedMemory(world, world.size, range(world.rank, world.rank + 1), 3)
    mine = torch.zeros(10)
    for turn in range(1000):
        if world.rank == 1 and turn == 20 and how is not None:
            os.kill(os.getpid(), how)
            time.sleep(60)
        began = time.monotonic()
        try:
            memory.sum([mine], [(0.0, 0.0)], mine)
        except PeerLost as error:
            return f"{time.monotonic() - began:.1f} {error}"
    return ""


def test_a_dead_peer_is_noticed_and_named(tmp_path: Path) -> None:
    def work() -> str:
        with distributed.join(config.Train(timeout_seconds=30)) as world:
            said = end(world, signal.SIGKILL)
            os.write(1, said.encode())
            os._exit(0)

    job = fork(2, work, tmp_path)
    seconds, _, message = job.output.partition(" ")
    assert float(seconds) < 1.5, job.output
    assert message.startswith("rank 1 (pid ")
    assert message.endswith(" died")


def test_a_stopped_peer_is_named(tmp_path: Path) -> None:
    def work() -> str:
        with distributed.join(config.Train(timeout_seconds=30)) as world:
            pids = world.gather(os.getpid())
            said = end(world, signal.SIGSTOP)
            os.kill(pids[1], signal.SIGKILL)
            os.write(1, said.encode())
            os._exit(0)

    job = fork(2, work, tmp_path)
    assert "waiting for rank 1: pid " in job.output
    assert "rank 1 did not come within 3 s: pid " in job.output
    assert job.output.endswith("is stopped")


def test_why_not(tmp_path: Path) -> None:
    assert objection(World(size=4, local_size=2)) == "the ranks are on several hosts"
    assert objection(World(device=torch.device("cuda", 0))) == "the ranks train on GPUs"
    settings = config.Train(sync="bitwise", exchange="shared_memory")
    with pytest.raises(UserError, match=r"train.exchange=shared_memory: the ranks are on several hosts"):
        build(model.build(0), model.loss_function("bce"), settings, World(size=4, local_size=2))
