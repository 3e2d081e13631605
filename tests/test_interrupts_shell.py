"""What a shell does to a job: it leaves, its terminal closes, it started the job with nohup or from a thread."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.run import jsonl, layout
from tests.helpers.ranks import ROOT
from tests.helpers.terminals import terminal

SECONDS = 120


def command(small: str, folder: Path, *settings: str) -> list[str]:
    """A job that takes about half a minute."""
    fixed = ["model.name=logistic", "data.name=idx", f"data.root={small}", f"run.root={folder}", "run.name=r"]
    long = ["train.epochs=3000", "train.global_batch_size=16", "log.every=10", "track.wandb=disabled"]
    return [sys.executable, "-m", "src.train", *fixed, *long, *settings]


def step(run: Path) -> int:
    return max((line["step"] for line in jsonl.read(run / "metrics.jsonl")), default=0)


def reach(run: Path, goal: int) -> None:
    deadline = time.monotonic() + SECONDS
    while step(run) < goal:
        assert time.monotonic() < deadline, f"step {step(run)}, {layout.read_status(run)}"
        time.sleep(0.05)


def state(run: Path, wanted: str) -> dict[str, object]:
    """status.json, once it has that state."""
    deadline = time.monotonic() + SECONDS
    while layout.read_status(run).get("state") != wanted:
        assert time.monotonic() < deadline, layout.read_status(run)
        time.sleep(0.05)
    return layout.read_status(run)


@contextlib.contextmanager
def stopping(run: Path) -> Iterator[None]:
    """At the end of the block, stop whatever trains there."""
    try:
        yield
    finally:
        (run / "STOP").touch()


def test_the_shell_that_started_it_leaves(small: str, tmp_path: Path) -> None:
    run = tmp_path / "r"
    with stopping(run):
        script = '"$@" >"$LOG" 2>&1 & while [ ! -s "$RUN/metrics.jsonl" ]; do sleep 0.1; done'
        left = {"TORCHELASTIC_ERROR_FILE": "/of/an/earlier/job", "TORCHELASTIC_RUN_ID": "none"}
        variables = os.environ | left | {"LOG": str(tmp_path / "log"), "RUN": str(run)}
        subprocess.run(["bash", "-c", script, "_", *command(small, tmp_path)], cwd=ROOT, env=variables, timeout=SECONDS)
        reach(run, step(run) + 2000)
    assert state(run, "preempted")["reason"] == "STOP file"


@pytest.mark.parametrize("by", ["terminal", "nobody"])
def test_a_terminal_that_closes(by: str, small: str, tmp_path: Path) -> None:
    """Its SIGHUP stops the job, which saves; under nohup it trains on, and has nothing to print on any more."""
    run = tmp_path / "r"
    trap = ["/bin/sh", "-c", 'trap "" HUP; exec "$@"', "_"] if by == "nobody" else []
    with stopping(run), terminal([*trap, *command(small, tmp_path)]) as (pid, screen):
        screen.until(b"epoch")
        screen.close()
        if by == "nobody":
            reach(run, step(run) + 2000)
            (run / "STOP").touch()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert layout.read_status(run)["reason"] == ("SIGHUP" if by == "terminal" else "STOP file")


STARTER = """
import os, subprocess, sys, threading
marked = os.environ | {"TORCHELASTIC_ERROR_FILE": sys.argv[1]}
run = lambda: subprocess.Popen(sys.argv[2:], env=marked, start_new_session=True)
starter = threading.Thread(target=run)
starter.start()
starter.join()
sys.stdin.read()
"""


@pytest.mark.parametrize("shell", [False, True], ids=["rank", "rank in a shell"])
def test_torchrun_s_death_counts_and_not_a_thread_s(shell: bool, small: str, tmp_path: Path) -> None:
    """A process stands for torchrun: it marks what it starts, perhaps with another job's mark itself."""
    run, through = tmp_path / "r", ["bash", "-c", '"$@"; exit', "_"] if shell else []
    with stopping(run), open(tmp_path / "log", "w") as log:
        starter = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(tmp_path / "e"), *through, *command(small, tmp_path)],
            cwd=ROOT,
            env=os.environ | {"TORCHELASTIC_ERROR_FILE": "/of/another/job"},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
        )
        reach(run, 1000)
        assert layout.read_status(run)["state"] == "running"
        starter.send_signal(signal.SIGKILL)
        starter.wait()
        assert state(run, "preempted")["reason"] == "SIGTERM"


def test_ctrl_c_in_the_first_moments_prints_nothing(small: str, tmp_path: Path) -> None:
    (tmp_path / "omegaconf.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    with terminal(command(small, tmp_path), PYTHONPATH=str(tmp_path)) as (pid, screen):
        screen.until(b"importing")
        assert screen.until_ctrl_c() == "importing\r\n^C"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
