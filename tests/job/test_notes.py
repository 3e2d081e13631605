"""What the ranks tell each other beside a step: see also tests/test_replicas.py and tests/test_clock.py."""

import pytest
import torch
from torch import nn

from src.clock import STALL_LINES, STALL_SECONDS, Clock, Slow
from src.errors import JobFailed
from src.gradients.notes import DIGEST, NUMBERS
from src.job.notes import Notes
from src.replicas import Replicas
from src.run.progress import Progress
from src.world.world import World


def notes(said: list[str], ranks: int = 1) -> Notes:
    world = World()
    replicas = Replicas(world, nn.Linear(2, 2), None, said.append)
    return Notes(world, replicas, Clock(lambda: 5.0, lambda: 2.0), Slow([1] * ranks), lambda: 3, said.append)


def test_a_note_is_a_digest_and_the_seconds_since_the_last() -> None:
    mine = notes([])
    assert mine.own().shape == (NUMBERS,)
    assert mine.own()[DIGEST:].tolist() == [0.0] * 4
    assert notes([]).own()[DIGEST:].tolist() == [3.0, 2.0, 0.0, 0.0]


@pytest.mark.parametrize("as_tensor", [False, True])
def test_the_seconds_are_read_and_a_slow_rank_is_named(as_tensor: bool) -> None:
    said: list[str] = []
    mine, slow = notes(said, 3), 4 * STALL_SECONDS
    rows = [[1.0, 2.0, 3.0, 4.0, seconds, 0.0, 0.0, 0.0] for seconds in (slow, 1.0, 1.0)]
    for _ in range(STALL_LINES):
        assert said == []
        seconds = mine.read(torch.tensor(rows) if as_tensor else rows, Progress(step=8))
    assert seconds == [row[DIGEST:] for row in rows]
    (line,) = said
    assert line.startswith("rank 0 on ")
    assert line.endswith(f" computes {slow:.1f} x the median")


def test_other_weights_end_the_job_at_the_step_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.replicas.hosts", lambda world: ["node0"] * 3)
    rows = [[1.0, 2.0, 3.0, digest] + [0.0] * 4 for digest in (4.0, 4.0, 5.0)]
    with pytest.raises(JobFailed, match=r"rank 2 on node0: its weights differ .* at step 7 .*step 3 is the last"):
        notes([], 3).read(rows, Progress(step=8))
