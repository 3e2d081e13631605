"""Whether another process lives, is stopped or has ended, and that a pid may be another's by then."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.world.processes import Process, this_process


def of(pid: int) -> Process:
    """The process of a pid, as it would describe itself."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return dataclasses.replace(this_process(), pid=pid, start=after_name[19])


@pytest.fixture
def child() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])


def test_this_process_lives() -> None:
    process = this_process()
    assert process.pid == os.getpid()
    assert not process.has_ended
    assert not process.is_stopped


def test_a_process_that_is_stopped_and_then_killed(child: "subprocess.Popen[bytes]") -> None:
    process = of(child.pid)
    assert (process.has_ended, process.is_stopped) == (False, False)
    child.send_signal(signal.SIGSTOP)
    while not process.is_stopped:
        time.sleep(0.01)
    child.kill()
    while not process.has_ended:  # a zombie counts as ended
        time.sleep(0.01)
    child.wait()
    assert process.has_ended


def test_another_process_with_the_same_pid_is_not_taken_for_it() -> None:
    assert dataclasses.replace(this_process(), start="1").has_ended
