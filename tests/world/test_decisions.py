"""The other ranks wait for an evaluation on rank 0 as long as rank 0 lives, and not a second longer."""

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from src import schema
from src.errors import PeerLost
from src.evaluation import evaluator, measure
from src.job import building
from src.run import jsonl, layout
from src.run.layout import State
from src.world import world as worlds
from tests.helpers.ranks import Job, fork, run_job

TIMEOUT_SECONDS = 3
SLOW_SECONDS = 6
SETTINGS = ("data.name=idx", "run.name=r", "train.epochs=2", f"train.timeout_seconds={TIMEOUT_SECONDS}")


def slow_evaluation(monkeypatch: pytest.MonkeyPatch, during: Callable[[Callable[[], bool]], None]) -> None:
    """Let the first evaluation begin with `during`, which gets the question whether it should stop."""
    original, calls = measure.evaluate, [0]

    def evaluate(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == 1:
            during(named.get("interrupted") or next(value for value in reversed(arguments) if callable(value)))
        return original(*arguments, **named)

    monkeypatch.setattr(evaluator, "evaluate", evaluate)


def run(small: str, folder: Path, *settings: str) -> tuple[Job, dict[str, Any], float]:
    """The job on two ranks, its status.json, and its seconds."""
    began = time.monotonic()
    done = run_job(2, folder, *SETTINGS, f"data.root={small}", *settings)
    return done, layout.read_status(folder / "runs" / "r"), time.monotonic() - began


EXCHANGES = pytest.mark.parametrize("exchange", ["train.exchange=shared_memory", "train.exchange=backend"])


@EXCHANGES
def test_an_evaluation_may_take_longer_than_the_timeout(
    exchange: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_evaluation(monkeypatch, lambda _: time.sleep(SLOW_SECONDS))
    done, status, seconds = run(small, tmp_path, exchange)
    assert done.codes == [0, 0], done.output
    assert status["state"] == State.FINISHED
    assert seconds > SLOW_SECONDS > TIMEOUT_SECONDS


@pytest.mark.slow(seconds=12)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_during_a_slow_evaluation_ends_in_a_saved_run(
    rank: int, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 1 gets the signal while it waits; rank 0 notices its own signal in the evaluation."""

    def during(interrupted: Callable[[], bool]) -> None:
        pid = os.getpid() if rank == 0 else int((tmp_path / "pid").read_text())
        os.kill(pid, signal.SIGTERM)
        time.sleep(SLOW_SECONDS)
        assert interrupted() == (rank == 0)

    slow_evaluation(monkeypatch, during)
    note_rank_1(monkeypatch, tmp_path / "pid")
    done, status, _ = run(small, tmp_path)
    assert done.codes == [0, 0], done.output
    assert (status["state"], status["reason"]) == (State.PREEMPTED, "SIGTERM")
    assert layout.checkpoint(tmp_path / "runs" / "r", status["step"]).exists()
    monkeypatch.undo()
    done, status, _ = run(small, tmp_path)
    assert (done.codes, status["state"]) == ([0, 0], State.FINISHED), done.output
    tests = [line["step"] for line in jsonl.read(tmp_path / "runs" / "r" / "metrics.jsonl") if line["kind"] == "test"]
    assert tests == [16, 32], "the evaluation that was interrupted is repeated, and written once"


def note_rank_1(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Let rank 1 write its pid when it has built its parts."""
    original = building.prepare

    def prepare(*arguments: Any) -> Any:
        if os.environ["RANK"] == "1":
            file.write_text(str(os.getpid()))
        return original(*arguments)

    monkeypatch.setattr(building, "prepare", prepare)


@EXCHANGES
def test_a_rank_0_that_dies_in_an_evaluation_ends_the_others_at_once(
    exchange: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died_at = tmp_path / "died"

    def during(_: object) -> None:
        time.sleep(1.5)
        died_at.write_text(str(time.monotonic()))
        os.kill(os.getpid(), signal.SIGKILL)

    slow_evaluation(monkeypatch, during)
    done, status, _ = run(small, tmp_path, exchange, "train.timeout_seconds=600")
    assert time.monotonic() - float(died_at.read_text()) < 300, "far below the timeout"
    assert done.codes == [-signal.SIGKILL, 1], done.output
    assert re.search(r"^error: rank 0 \(pid \d+\) died$", done.output, re.MULTILINE), done.output
    assert status["state"] == State.RUNNING, "nobody is left who may write it"
    assert layout.checkpoint(tmp_path / "runs" / "r", status["step"]).exists(), "saved before the evaluation"


@pytest.mark.slow(seconds=12)
def test_a_rank_0_that_is_stopped_for_a_while_is_not_lost(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def during(_: object) -> None:
        pid = os.getpid()
        if os.fork() == 0:
            time.sleep(2 * TIMEOUT_SECONDS)
            os.kill(pid, signal.SIGCONT)
            os._exit(0)
        os.kill(pid, signal.SIGSTOP)

    slow_evaluation(monkeypatch, during)
    done, status, seconds = run(small, tmp_path)
    assert done.codes == [0, 0], done.output
    assert status["state"] == State.FINISHED
    assert seconds > 2 * TIMEOUT_SECONDS


@pytest.mark.slow(seconds=12)
@pytest.mark.parametrize("visible", [True, False])
def test_only_a_rank_0_on_another_host_is_given_up_without_a_heartbeat(
    visible: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one host its process tells that it lives, whatever keeps its threads from running."""
    monkeypatch.setattr(worlds, "heartbeat", lambda *_: nullcontext())

    def slowly() -> str:
        time.sleep(3)
        return "decided"

    def work() -> str:
        with worlds.join(schema.Train(timeout_seconds=1)) as world:
            if not visible:
                world.processes[:] = [replace(each, namespace=str(rank)) for rank, each in enumerate(world.processes)]
            try:
                return world.rank0_decides(slowly)
            except PeerLost as error:
                os.write(1, str(error).encode())
                os._exit(1)

    done = fork(2, work, tmp_path)
    if visible:
        assert done.values == ["decided"] * 2, done.output
    else:
        assert done.codes[1] == 1
        assert "rank 0 gave no sign of life for 1 s" in done.output
