"""Stopping: whoever asks, all stop after the same step, save, and the same command goes on."""

import contextlib
import fcntl
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.drill.scenarios import alive
from src.run import jsonl
from src.run.layout import read_status
from tests.helpers.ranks import ROOT, good_job, torchrun

SETTINGS = ("data.name=idx", "train.sync=bitwise", "run.name=r", "log.every=10", "track.wandb=disabled")
LONG = (*SETTINGS, "train.epochs=400", "train.global_batch_size=16")


def job(
    small: str, folder: Path, *settings: str, ranks: int = 2, options: tuple[str, ...] = ()
) -> "subprocess.Popen[str]":
    chosen = (*LONG, f"data.root={small}", f"run.root={folder}", *settings)
    return torchrun(ranks, *chosen, options=(f"--log-dir={folder / 'log'}", *options), start_new_session=True)


def step(folder: Path) -> int:
    return max((line["step"] for line in jsonl.read(folder / "r" / "metrics.jsonl")), default=0)


def reach(folder: Path, goal: int) -> None:
    deadline = time.monotonic() + 240
    while step(folder) < goal:
        assert time.monotonic() < deadline, "the job does not get there"
        time.sleep(0.01)


def status(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "r" / "status.json").read_text())
    return content


def workers(process: "subprocess.Popen[str]") -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def end(process: "subprocess.Popen[str]") -> str:
    """The job's output once its last process is gone, which must be within half a minute."""
    output, _ = process.communicate(timeout=240)
    deadline = time.monotonic() + 30
    while alive(process.pid):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)
    return output


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2"])
def test_a_signal_to_one_rank_stops_all(name: str, small: str, tmp_path: Path) -> None:
    process = job(small, tmp_path)
    reach(tmp_path, 20)
    os.kill(workers(process)[1], getattr(signal, name))
    output = end(process)
    assert process.returncode == 0, output
    found = status(tmp_path)
    assert (found["state"], found["reason"]) == ("preempted", name)
    assert f"stopped  {name}: saved at epoch " in output
    assert "Traceback" not in output
    events = list(jsonl.read(tmp_path / "r" / "events.jsonl"))
    assert [event["event"] for event in events][-2:] == ["checkpoint", "stop"]
    assert events[-1]["step"] == found["step"]
    assert (tmp_path / "r" / "checkpoints" / f"step-{found['step']:08d}.pt").exists()


def test_the_stop_file_and_then_the_same_command(small: str, tmp_path: Path) -> None:
    process = job(small, tmp_path)
    reach(tmp_path, 20)
    (tmp_path / "r" / "STOP").touch()
    end(process)
    assert process.returncode == 0
    assert status(tmp_path)["reason"] == "STOP file"
    before = step(tmp_path)
    again = job(small, tmp_path)
    reach(tmp_path, before + 100)
    os.kill(workers(again)[0], signal.SIGTERM)
    assert "resumed at step" in end(again)
    steps = [line["step"] for line in jsonl.read(tmp_path / "r" / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == sorted(set(steps))
    assert {step for step in range(10, max(steps), 10) if step % 64 % 10 == 0 and step < 64} <= set(steps)


def test_the_clock(small: str, tmp_path: Path) -> None:
    process = job(small, tmp_path, "train.max_minutes=0.01")
    end(process)
    assert process.returncode == 0
    assert status(tmp_path)["reason"] == "train.max_minutes"


def test_slurm_s_end_time(small: str, tmp_path: Path) -> None:
    chosen = (*LONG, f"data.root={small}", f"run.root={tmp_path}")
    environment = {"SLURM_JOB_END_TIME": str(int(time.time()) + 36)}
    process = torchrun(1, *chosen, environment=environment, start_new_session=True)
    end(process)
    assert status(tmp_path)["reason"] == "Slurm's time limit"


def test_kill_9_of_torchrun_leaves_nothing(small: str, tmp_path: Path) -> None:
    process = job(small, tmp_path)
    reach(tmp_path, 20)
    process.kill()
    end(process)
    assert status(tmp_path)["state"] == "preempted"


def test_kill_9_of_a_rank_leaves_nothing_and_is_named(small: str, tmp_path: Path) -> None:
    process = job(small, tmp_path)
    reach(tmp_path, 20)
    victim = workers(process)[1]
    os.kill(victim, signal.SIGKILL)
    output = end(process)
    assert f"rank 1 (pid {victim}) died" in output
    assert status(tmp_path)["state"] == "failed"


def test_max_restarts_goes_on(small: str, tmp_path: Path) -> None:
    process = job(small, tmp_path, "train.epochs=60", options=("--max-restarts=3",))
    reach(tmp_path, 200)
    os.kill(workers(process)[0], signal.SIGKILL)
    output = end(process)
    assert process.returncode == 0, output
    assert status(tmp_path)["state"] == "finished"
    assert [event["event"] for event in jsonl.read(tmp_path / "r" / "events.jsonl")].count("resume") == 1


def importing(pid: int) -> bool:
    """Whether the process is the job's, no more a fork of this one, and has begun to import torch."""
    with contextlib.suppress(OSError):
        return b"src.train" in Path(f"/proc/{pid}/cmdline").read_bytes() and (
            "libtorch" in Path(f"/proc/{pid}/maps").read_text()
        )
    return False


def test_kill_9_of_torchrun_leaves_nothing_that_still_starts(small: str, tmp_path: Path) -> None:
    process = job(small, tmp_path)
    while sum(map(importing, workers(process))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert "torchrun is gone" not in end(process), "it waited for the store; the kernel should have told it"
    assert not (tmp_path / "r").exists()


def test_a_terminal_shows_a_bar_and_one_line_for_ctrl_c(small: str, tmp_path: Path) -> None:
    """What `python -m src.train` shows on one: a bar that moves in its line, and no traceback, also while it starts."""
    command = [sys.executable, "-m", "src.train", *LONG, f"data.root={small}", f"run.root={tmp_path}"]
    with terminal(command) as (pid, screen):
        while not importing(pid):
            time.sleep(0.01)
        assert screen.until_ctrl_c() == "^C"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
    with terminal(command) as (pid, screen):
        reach(tmp_path, 200)
        shown = screen.until_ctrl_c()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    bars = re.findall(r"\r[^\n]*?\| (\d+)/25600 \[.*?loss 0\.\d{4}, [\d,]+ samples/s", shown)
    assert len(set(bars)) > 1, shown
    assert shown.count("stopped  SIGINT: saved at epoch") == 1
    assert shown.endswith("; run the same command to go on\r\n")
    assert "Traceback" not in shown


class Screen:
    """What a process shows on its terminal."""

    def __init__(self, handle: int) -> None:
        self.handle, self.shown = handle, b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the process is gone
            while some := os.read(self.handle, 4096):
                self.shown += some

    def until_ctrl_c(self) -> str:
        """Press Ctrl-C; all that was shown when the process has left."""
        os.write(self.handle, b"\x03")
        self._reader.join(timeout=240)
        assert not self._reader.is_alive()
        return self.shown.decode()


@contextlib.contextmanager
def terminal(command: list[str]) -> Iterator[tuple[int, Screen]]:
    """Start a command on a terminal of 24 x 100."""
    pid, handle = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execv(command[0], command)
    fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    try:
        yield pid, Screen(handle)
    finally:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):  # only a failed test leaves it
                os.kill(pid, signal.SIGKILL)
        os.close(handle)


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    code = (
        "import time, pathlib; from src.interrupts import Interrupts; Interrupts(pathlib.Path('none'), 0);"
        "print('ready', flush=True); time.sleep(60); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    time.sleep(1.2)
    assert process.poll() is None, "torchrun repeats the first Ctrl-C at once"
    for _ in range(20):  # a busy machine hears the first one late
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert process.wait(timeout=1.5) == 130
            return
    raise AssertionError("a second Ctrl-C is not heard")


def test_fifty_kills_end_at_the_same_weights(small: str, tmp_path: Path) -> None:
    """Every process of a short job is killed at random moments; the seed repeats a failure."""
    chance = random.Random(20)
    settings = (
        *SETTINGS,
        f"data.root={small}",
        "train.epochs=25",
        "train.global_batch_size=8",
        "checkpoint.every_steps=25",
    )
    whole = good_job(2, tmp_path / "whole", *settings)
    expected = json.loads((whole.run / "status.json").read_text())
    kills = 0
    while kills < 50:
        ranks = chance.choice((1, 2, 3))
        pid = os.fork()
        if pid == 0:
            os.setsid()
            try:
                good_job(ranks, tmp_path, *settings)
            finally:
                os._exit(0)
        time.sleep(chance.uniform(0.2, 0.7))
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        if read_status(tmp_path / "runs" / "r").get("state") == "finished":
            (tmp_path / "runs" / "r").rename(tmp_path / f"finished-{kills}")
            assert (
                json.loads((tmp_path / f"finished-{kills}" / "status.json").read_text())["weights_sha256"]
                == expected["weights_sha256"]
            )
    final = good_job(2, tmp_path, *settings)
    assert json.loads((final.run / "status.json").read_text())["weights_sha256"] == expected["weights_sha256"]
    steps = [(line["kind"], line["step"]) for line in jsonl.read(final.run / "metrics.jsonl")]
    assert steps == [(line["kind"], line["step"]) for line in jsonl.read(whole.run / "metrics.jsonl")]
