"""A signal while the job starts: before status.json says running it leaves nothing, from then on a saved run."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src import files
from src.console import Console
from src.data import dataset
from src.run import jsonl, layout
from src.run.checkpoint import Checkpoints
from src.run.layout import State
from src.run.run import Run
from src.tracking.tracker import Tracker
from tests.helpers.ranks import Job, run_job

SETTINGS = ("data.name=idx", "run.name=r", "train.epochs=1", "log.every=1")
BEFORE_HANDLERS = [(dataset, "load")]
BEFORE_RUNNING = [(Run, "open"), (Checkpoints, "resume"), (Run, "begin")]
AFTER_RUNNING = [(Tracker, "begin"), (Console, "rows"), (Console, "start")]
BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)


def moment(owner: Any, name: str) -> str:
    """The name of a test's moment."""
    return f"{getattr(owner, '__name__', '').rpartition('.')[2]}.{name}"


def at(moments: list[tuple[Any, str]]) -> pytest.MarkDecorator:
    """Parametrize a test with the functions at whose start the signal comes."""
    return pytest.mark.parametrize(("owner", "name"), moments, ids=[moment(*each) for each in moments])


def strike(number: signal.Signals, rank: int) -> None:
    """Send the signal to this process if it is that rank, and give the thread that reads it time to do so."""
    if os.environ["RANK"] == str(rank):
        os.kill(os.getpid(), number)
        time.sleep(0.1)


def signalled(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: signal.Signals, rank: int = 0, after: bool = False
) -> None:
    """Let the rank send itself the signal just before (or after) the function is called."""
    original: Callable[..., Any] = getattr(owner, name)

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if not after:
            strike(number, rank)
        value = original(*arguments, **named)
        if after:
            strike(number, rank)
        return value

    monkeypatch.setattr(owner, name, wrapped)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def job(small: str, folder: Path, ranks: int = 1, *settings: str) -> Job:
    return run_job(ranks, folder, *SETTINGS, f"data.root={small}", *settings)


def check_saved(done: Job, run: Path, number: signal.Signals) -> None:
    """The run was stopped by the signal, and its last checkpoint is the one that status.json names."""
    status = layout.read_status(run)
    assert not any(done.codes), done.output
    assert (status["state"], status["reason"], status["restart"]) == (State.PREEMPTED, number.name, True), status
    assert layout.checkpoint(run, status["step"]).exists()
    last = list(jsonl.read(run / layout.EVENTS))[-1]
    assert (last["event"], last["step"]) == ("stop", status["step"])
    assert f"stopped  {number.name}: saved at" in done.output
    assert "Traceback" not in done.output


def check_goes_on(small: str, folder: Path) -> None:
    """The same command, without a signal, finishes the run."""
    done = job(small, folder)
    assert not any(done.codes), done.output
    assert layout.read_status(folder / "runs" / "r")["state"] == State.FINISHED


@BOTH
@at(BEFORE_HANDLERS)
def test_a_signal_before_the_handlers_leaves_nothing(
    owner: Any, name: str, number: signal.Signals, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled(monkeypatch, owner, name, number)
    done = job(small, tmp_path)
    assert done.codes == [-number], done.output
    assert list((tmp_path / "runs").iterdir()) == []


@BOTH
def test_a_signal_before_the_handlers_leaves_an_earlier_run_as_it_was(
    number: signal.Signals, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(job(small, tmp_path).codes)
    before = contents(tmp_path / "runs")
    signalled(monkeypatch, dataset, "load", number)
    done = job(small, tmp_path, 1, "train.epochs=2")
    assert done.codes == [-number], done.output
    assert contents(tmp_path / "runs") == before


@BOTH
@at(BEFORE_RUNNING + AFTER_RUNNING)
def test_a_signal_during_the_start_ends_in_a_saved_run(
    owner: Any, name: str, number: signal.Signals, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        signalled(patch, owner, name, number)
        check_saved(job(small, tmp_path), tmp_path / "runs" / "r", number)
    check_goes_on(small, tmp_path)


@BOTH
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_signal_around_the_write_of_running_ends_in_a_saved_run(
    after: bool, number: signal.Signals, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """status.json says running for the first time between these two moments."""
    original = files.write_text
    written: list[Path] = []

    def write_text(file: Path, text: str) -> None:
        first = file.name == layout.STATUS and not written
        if first and not after:
            assert not file.exists()
            strike(number, 0)
        original(file, text)
        if first:
            written.append(file)
            assert f'"{State.RUNNING}"' in text
            if after:
                strike(number, 0)

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_text", write_text)
        check_saved(job(small, tmp_path), tmp_path / "runs" / "r", number)
    check_goes_on(small, tmp_path)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_signal_to_one_of_two_ranks_around_begin_stops_both(
    after: bool, rank: int, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled(monkeypatch, Run, "begin", signal.SIGTERM, rank, after)
    check_saved(job(small, tmp_path, 2), tmp_path / "runs" / "r", signal.SIGTERM)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_of_two_ranks_before_the_handlers_leaves_nothing(
    rank: int, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled(monkeypatch, dataset, "load", signal.SIGTERM, rank)
    done = job(small, tmp_path, 2, "train.timeout_seconds=20")
    assert done.codes[rank] == -signal.SIGTERM
    assert done.codes[1 - rank] == 1, done.output
    assert list((tmp_path / "runs").iterdir()) == []
    assert f"rank {rank}" in done.output, "the message names the rank that was killed"


@BOTH
def test_a_signal_during_a_resume_keeps_the_checkpoint(
    number: signal.Signals, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "r"
    with monkeypatch.context() as patch:
        signalled(patch, Console, "start", number)
        check_saved(job(small, tmp_path), run, number)
    first = layout.read_status(run)["step"]
    signalled(monkeypatch, Run, "begin", number, after=True)
    check_saved(job(small, tmp_path), run, number)
    assert layout.read_status(run)["step"] >= first
