"""The drill's processes: finding the ranks, waiting for a step, noticing what is left behind."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.drill import __main__ as drill_command
from src.drill import scenarios
from src.drill.__main__ import Result
from src.drill.scenarios import SCENARIOS, Drill, alive

# Each number is written at once: two processes share the pipe.
PARENT = """import subprocess, sys, time
def tell(number):
    sys.stdout.write(f"{number}{chr(10)}")
    sys.stdout.flush()
if sys.argv[1:]:
    tell(1)
    time.sleep(300)
child = subprocess.Popen([sys.executable, "-c", sys.orig_argv[2], "child"])
tell(child.pid)
child.wait()
"""


@pytest.fixture
def drill(tmp_path: Path) -> Drill:
    (tmp_path / "runs" / "x").mkdir(parents=True)
    return Drill(tmp_path, "x", seed=0)


@contextlib.contextmanager
def session() -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A process in a session of its own, as torchrun is, and the pid of its child; both end with the block."""
    command = [sys.executable, "-c", PARENT]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    numbers = {int(process.stdout.readline()), int(process.stdout.readline())}
    (child,) = numbers - {1}
    try:
        yield process, child
    finally:
        for pid in (process.pid, child):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def test_finding_the_ranks_and_the_processes_of_a_session(drill: Drill) -> None:
    with session() as (process, child):
        drill.process = process
        assert drill.workers() == [child]
        assert sorted(alive(process.pid)) == sorted([process.pid, child])
        process.kill()
        process.wait()
        assert alive(process.pid) == [child], "an orphan stays in its session"
    assert scenarios._children(process.pid) == []


def test_a_process_that_is_left_fails_the_wait(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "EXIT_SECONDS", 0)
    with session() as (process, child):
        drill.process = process
        process.kill()
        with pytest.raises(RuntimeError, match=rf"processes did not end: \[{child}\]"):
            drill.wait()


def test_a_step_is_waited_for_until_the_job_ends(drill: Drill) -> None:
    (drill.path / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in (50, 250)))
    assert drill.step() == 250
    drill.reach(200, 240)
    drill.process = subprocess.Popen(["true"])
    drill.process.wait()
    drill.reach(1000, 2000)  # returns at once: the job has ended
    assert drill.step() == 250


def test_the_seed_decides_the_random_moments(tmp_path: Path) -> None:
    first, again, other = (Drill(tmp_path, name, 3).random.random() for name in ("a", "a", "b"))
    assert first == again != other
    assert Drill(tmp_path, "a", 4).random.random() != first


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_s_name_fits_its_column(name: str) -> None:
    row = drill_command._row(Result(name, died_at=123, resumed_at=[100], ranks=[4, 4], sha256="a" * 64), "a" * 64)
    assert row.index("    123") == 39
    assert row.endswith("PASS")


def test_a_damaging_scenario_damages_the_newest_checkpoint_alone(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = drill.path / "checkpoints"
    folder.mkdir()
    contents = {"step-00000150.pt": bytes(9000), "step-00000300.pt": bytes(range(250)) * 36}
    monkeypatch.setattr(scenarios, "kill_ranks", lambda _: None)
    monkeypatch.setattr(Drill, "wait", lambda _: 0)
    for scenario in (scenarios.truncated, scenarios.flipped):
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        scenario(drill)
        assert (folder / "step-00000150.pt").read_bytes() == contents["step-00000150.pt"]
        after, before = (folder / "step-00000300.pt").read_bytes(), contents["step-00000300.pt"]
        if scenario is scenarios.truncated:
            assert len(after) < len(before)
        else:
            assert sum(one != other for one, other in zip(after, before, strict=True)) == 1
