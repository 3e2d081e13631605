"""`python -m src.status --follow RUN`: what the run's own terminal shows, through requeues, until the run has ended."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from src import follow, interrupts
from src.follow import Follower
from src.run import layout, tables
from src.run.layout import ExitCode
from src.run.lock import hold
from tests.helpers.commands import command
from tests.helpers.ranks import good_job, start_job
from tests.helpers.terminals import terminal

Captured = pytest.CaptureFixture[str]
RUNNING = {"state": "running", "restart": True, "last_step": 100, "steps_per_epoch": 50, "batch": 64}
RUNNING |= {"epoch": 0, "step": 0}
DESCRIBED = {"names": ["accuracy", "loss"], "shares": {"accuracy": ["correct", "count"]}, "best": "accuracy"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that trains, as far as its folder says."""
    monkeypatch.setattr(follow, "LINE_SECONDS", 0.0)
    path = tmp_path / "r"
    path.mkdir()
    tables.write(path, 1, {"metrics": DESCRIBED | {"higher_is_better": True}}, print)
    status(path)
    return path


def status(path: Path, **facts: object) -> None:
    (path / "status.json").write_text(json.dumps(RUNNING | facts))


def write(path: Path, *lines: dict[str, object]) -> None:
    with (path / "metrics.jsonl").open("a") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)


def train(epoch: int, step: int, loss: float = 0.5) -> dict[str, object]:
    where = {"kind": "train", "epoch": epoch, "step": step, "samples_seen": 64 * step}
    return where | {"loss": loss, "samples_per_second": 6400.0}


TEST = {"kind": "test", "epoch": 1, "step": 50, "samples_seen": 3200, "correct": 3, "count": 4, "loss": 0.25}


def test_it_shows_what_training_shows(run: Path, capsys: Captured) -> None:
    lock = hold(run)
    write(run, train(1, 10, 0.9), train(1, 20, 0.8))
    follower = Follower(run)
    assert follower.look() is None
    assert capsys.readouterr().out == "epoch 1/2  step 20/50  loss 0.8000  6,400 samples/s  0:00:01 left\n"
    write(run, train(1, 50), TEST | {"accuracy": 0.75}, train(2, 60))
    assert follower.look() is None
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/2  step 50/50  loss 0.5000  6,400 samples/s  0:00:00 left",
        "epoch 1/2  test  3/4 = 75.00 %  loss 0.2500",
        "epoch 2/2  step 10/50  loss 0.5000  6,400 samples/s  0:00:00 left",
    ]
    os.close(lock)
    status(run, state="finished", epoch=2, step=100, restart=False, correct=4, count=4, accuracy=1.0, loss=0.125)
    assert follower.look() is ExitCode.FINISHED
    assert capsys.readouterr().out == "result   4/4 = 100.00 %, loss 0.1250, 2 epochs, 100 steps\n"


@pytest.mark.parametrize(
    ("facts", "code", "said"),
    [
        ({"state": "preempted", "reason": "SIGINT", "step": 7}, ExitCode.STOPPED, "stopped  SIGINT: saved at step 7"),
        (
            {"state": "preempted", "reason": "STOP file", "restart": False},
            ExitCode.STOPPED,
            "stopped  STOP file: saved",
        ),
        ({"state": "preempted", "reason": "SIGUSR1"}, None, "; waiting for its next start, Ctrl-C ends this"),
        ({"state": "failed", "reason": "rank 1 died"}, None, "failed   rank 1 died; waiting"),
    ],
)
def test_how_it_ends(facts: dict[str, object], code: ExitCode | None, said: str, run: Path, capsys: Captured) -> None:
    status(run, **facts)
    follower = Follower(run)
    assert [follower.look(), follower.look()] == [code, code]
    assert capsys.readouterr().out.count(said) == 1


def test_a_run_that_failed_or_was_killed_is_given_up_in_the_end(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "GONE_SECONDS", 0.0)
    status(run, state="failed", reason="no")
    assert Follower(run).look() is ExitCode.FAILED
    status(run)
    os.close(hold(run))
    assert Follower(run).look() is ExitCode.FAILED


def test_lines_that_are_forgotten_by_a_resume_are_followed(run: Path, capsys: Captured) -> None:
    lock = hold(run)
    write(run, *(train(1, step) for step in range(1, 41)))
    follower = Follower(run)
    follower.look()
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    os.truncate(run / "metrics.jsonl", sum(map(len, lines[:20])))
    follower.look()
    capsys.readouterr()
    write(run, train(1, 21, 0.25))
    follower.look()
    os.close(lock)
    assert capsys.readouterr().out.startswith("epoch 1/2  step 21/50  loss 0.2500")


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    done = command("src.status", "--follow", str(tmp_path / "none"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is no run" in done.stderr


def test_a_real_run_that_is_requeued(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "LOOK_SECONDS", 0.05)
    settings = ("data.name=idx", f"data.root={small}", "run.name=r", "log.every=10", "train.global_batch_size=16")
    long = (*settings, "train.epochs=2000", "train.sync=bitwise")
    run = tmp_path / "runs" / "r"
    started = start_job(2, tmp_path, *long)
    while not (run / "metrics.jsonl").exists():
        time.sleep(0.05)
    with terminal([sys.executable, "-m", "src.status", "--follow", str(run)], columns=60) as (pid, screen):
        screen.until(b"/2000  ")
        os.kill(started.pids[0], signal.SIGTERM)
        started.wait()
        screen.until(b"stopped  SIGTERM: saved at step ")
        epochs = layout.read_status(run)["epoch"] + 3
        good_job(2, tmp_path, *settings, "train.sync=bitwise", f"train.epochs={epochs}")
        shown = screen.until_end()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == ExitCode.FINISHED
    assert "\r\x1b[Kepoch " in shown
    assert f"/{epochs}  " in shown, "the next start has another number of epochs"
    assert "\r\x1b[Kresult   " in shown
