"""Ranks of a host wait for each other: not burning a core, and not for the dead."""

import resource
import time
from pathlib import Path

import pytest
import torch

from src import schema
from src.errors import PeerLost
from src.gradients import meeting
from src.gradients.build import tree_of
from src.gradients.shared_memory import SharedMemory
from src.world.world import World
from tests.helpers.ranks import in_world


def test_a_waiting_rank_sleeps(tmp_path: Path) -> None:
    def work(world: World) -> int:
        meeting.YIELDS = 10  # on a busy machine each of the 2000 may give a time slice away
        memory = SharedMemory(world, tree_of(schema.Train(), world.size), 10)
        mine = torch.zeros(10)
        memory.sum([mine], [(0.0, 0.0, 0.0)], mine)
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        if world.rank == 1:
            time.sleep(1)  # such as an evaluation
        memory.sum([mine], [(0.0, 0.0, 0.0)], mine)
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before

    assert in_world(2, work, tmp_path).values[0] > 50  # voluntary context switches


def test_a_rank_that_does_not_come_is_named(tmp_path: Path) -> None:
    def work(world: World) -> float:
        memory = SharedMemory(world, tree_of(schema.Train(), world.size), 0.5)
        if world.rank == 1:
            while not met.exists():  # as long as rank 0 waits: one that has ended has died
                time.sleep(0.05)
            return 0.0
        with pytest.raises(PeerLost, match=r"rank 1 did not come within 0 s"):
            memory.sum([torch.zeros(1)], [(0.0, 0.0, 0.0)], torch.zeros(1))
        met.touch()
        return 1.0

    met = tmp_path / "met"
    assert in_world(2, work, tmp_path).values == [1.0, 0.0]
