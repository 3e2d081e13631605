"""A rank is killed: status.json and every other rank's error name that rank, not one that left because of it."""

import os
import re
import signal
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from src.interrupts import Interrupts
from src.run import jsonl, layout
from src.run.layout import State
from src.world import lost_ranks, roll_call
from src.world.processes import Process
from src.world.world import World
from tests.helpers import stores
from tests.helpers.ranks import Job, run_job

RANKS = 4
SETTINGS = ("data.name=idx", "run.name=r", "train.epochs=50", "train.timeout_seconds=60")
EXCHANGES = (
    ("train.exchange=shared_memory",),
    ("train.exchange=backend",),
    ("train.exchange=shared_memory", "train.sync=bitwise"),
    ("train.exchange=backend", "train.sync=bitwise"),
)


def at_step_20(number: signal.Signals, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the rank send itself the signal."""
    original, votes = Interrupts.vote, [0]

    def vote(self: Interrupts) -> float:
        votes[0] += 1
        if votes[0] == 20 and os.environ["RANK"] == str(rank):
            os.kill(os.getpid(), number)
        return original(self)

    monkeypatch.setattr(Interrupts, "vote", vote)


def killed_at_step_20(rank: int, small: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *settings: str) -> Job:
    """A job of four ranks, of which one is killed."""
    at_step_20(signal.SIGKILL, rank, monkeypatch)
    return run_job(RANKS, folder, *SETTINGS, f"data.root={small}", *settings)


def errors(job: Job) -> list[str]:
    return re.findall(r"^error: (.*)", job.output, re.MULTILINE)


@pytest.mark.parametrize("settings", EXCHANGES, ids=" ".join)
def test_the_first_cause_is_named_by_all(
    settings: tuple[str, ...], small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for turn in range(2):
        folder = tmp_path / str(turn)
        job = killed_at_step_20(3, small, folder, monkeypatch, *settings)
        assert job.codes == [1, 1, 1, -signal.SIGKILL], job.output
        status = layout.read_status(folder / "runs" / "r")
        assert status["state"] == State.FAILED
        assert re.match(r"rank 3 \(pid \d+\) died$", status["reason"]), f"turn {turn}: {status['reason']}\n{job.output}"
        assert errors(job) == [status["reason"]] * 3, f"turn {turn}"
        assert list(jsonl.read(folder / "runs" / "r" / "events.jsonl"))[-1]["reason"] == status["reason"]


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("settings", EXCHANGES[:2], ids=" ".join)
def test_rank_0_is_named_too(
    settings: tuple[str, ...], small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the store through which the others agree on the first cause."""
    for turn in range(2):
        job = killed_at_step_20(0, small, tmp_path / str(turn), monkeypatch, *settings)
        assert job.codes == [-signal.SIGKILL, 1, 1, 1], job.output
        named = errors(job)
        assert len(named) == 3
        assert all(re.match(r"rank 0 \(pid \d+\) died$", error) for error in named), f"turn {turn}: {named}"


@pytest.mark.slow(seconds=10)
def test_a_stopped_rank_is_named_over_gloo_in_one_line(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but gloo's timeout tells of it; the rank is killed when the other has reported it, to end the test."""
    at_step_20(signal.SIGSTOP, 1, monkeypatch)
    monkeypatch.setattr(World, "let_others_read_cause", kill_stopped)
    settings = (*SETTINGS, f"data.root={small}", "train.exchange=backend", "train.timeout_seconds=2")
    job = run_job(2, tmp_path, *settings)
    assert job.codes == [1, -signal.SIGKILL], job.output
    (error,) = errors(job)
    assert re.match(r"rank 1 did not come: pid \d+ is stopped$", error)
    assert job.output.endswith(f"error: {error}\n"), "no line after it"


def kill_stopped(world: World) -> None:
    os.kill(world.processes[1].pid, signal.SIGKILL)


def test_rank_0_hangs_up_before_it_waits_for_the_others() -> None:
    """A rank that waits for rank 0 in a collective would read no cause before rank 0 has left; the store stays."""
    with socket.create_server(("127.0.0.1", 0)) as store, socket.create_server(("127.0.0.1", 0)) as peer:
        kept, cut = (socket.create_connection(server.getsockname(), timeout=5) for server in (store, peer))
        lost_ranks.hang_up(store.getsockname()[1])
        assert cut.recv(1) == b""
        there, _ = store.accept()
        there.send(b"1")
        assert kept.recv(1) == b"1"
        for end in (kept, cut, there):
            end.close()


def test_rank_0_asks_once_who_has_read_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ranks there are, each of which might have read it."""
    monkeypatch.setattr(lost_ranks, "hang_up", lambda _: None)
    monkeypatch.setattr(lost_ranks, "store_port", lambda _: 1)
    stores.here.counts = counts = Counter[str]()
    store: Any = stores.Memory("", 3)
    for rank in range(1, 1000):
        roll_call.enter(store, lost_ranks.READ, rank)
    counts.clear()
    ranks = [Process("", rank, "") for rank in range(1000)]
    lost_ranks.LostRanks(0, ranks, store, 1).let_others_read_cause()
    assert counts["requests"] == 2
