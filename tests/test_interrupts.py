"""Stopping: on any request all ranks stop after the same step and save, and the same command resumes."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src import interrupts
from src.drill.scenarios import alive
from src.run import jsonl
from src.run.layout import StopReason, newest_first, read_status
from tests.helpers.ranks import ROOT, Forked, Job, fork, good_job, start_job, torchrun
from tests.helpers.terminals import terminal

SETTINGS = ("data.name=idx", "train.sync=bitwise", "run.name=r", "log.every=10", "track.wandb=disabled")
LONG = (*SETTINGS, "train.epochs=400", "train.global_batch_size=16")


def job(small: str, folder: Path, *settings: str, environment: dict[str, str] | None = None) -> Forked:
    """Start a long run on two forked ranks."""
    return start_job(2, folder, *LONG, f"data.root={small}", *settings, environment=environment)


def under_torchrun(small: str, folder: Path, *settings: str, options: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    """Start the same run as a user does, where torchrun is what is tested."""
    chosen = (*LONG, f"data.root={small}", f"run.root={folder / 'runs'}", *settings)
    return torchrun(2, *chosen, options=(f"--log-dir={folder / 'log'}", *options), start_new_session=True)


def step(folder: Path) -> int:
    return max((line["step"] for line in jsonl.read(folder / "runs" / "r" / "metrics.jsonl")), default=0)


def reach(folder: Path, goal: int) -> None:
    deadline = time.monotonic() + 240
    while step(folder) < goal:
        assert time.monotonic() < deadline, "the job does not get there"
        time.sleep(0.01)


def workers(process: "subprocess.Popen[str]") -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def end(process: "subprocess.Popen[str]") -> str:
    """The job's output, once its last process has ended; fails if one is left after half a minute."""
    output, _ = process.communicate(timeout=240)
    deadline = time.monotonic() + 30
    while alive(process.pid):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.05)
    return output


@pytest.mark.parametrize("name", interrupts.NAMES)
def test_a_signal_to_one_rank_stops_all(name: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda number: signal.SIG_DFL)  # these tests may run under nohup
    started = job(small, tmp_path)
    reach(tmp_path, 20)
    os.kill(started.pids[1], getattr(signal, name))
    done = started.wait()
    assert done.codes == [0, 0], done.output
    status = read_status(done.run)
    assert (status["state"], status["reason"]) == ("preempted", name)
    assert f"stopped  {name}: saved at epoch " in done.output
    assert "Traceback" not in done.output
    events = list(jsonl.read(done.run / "events.jsonl"))
    assert [event["event"] for event in events][-2:] == ["checkpoint", "stop"]
    assert events[-1]["step"] == status["step"]
    assert (done.run / "checkpoints" / f"step-{status['step']:08d}.pt").exists()
    assert f'"reason": "{name}"' in (done.run / "events.jsonl").read_text()
    assert "<title>" in (done.run / "report.html").read_text(), "a run that was stopped has its report too"


def test_the_stop_file_and_then_the_same_command(small: str, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r"
    started = job(small, tmp_path)
    reach(tmp_path, 20)
    (run / "STOP").touch()
    assert started.wait().codes == [0, 0]
    assert read_status(run)["reason"] == "STOP file"
    before = step(tmp_path)
    again = job(small, tmp_path)
    reach(tmp_path, before + 100)
    os.kill(again.pids[0], signal.SIGTERM)
    assert "resumed at step" in again.wait().output
    steps = [line["step"] for line in jsonl.read(run / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == sorted(set(steps))
    assert {step for step in range(10, max(steps), 10) if step % 64 % 10 == 0 and step < 64} <= set(steps)


def test_max_minutes(small: str, tmp_path: Path) -> None:
    done = job(small, tmp_path, "train.max_minutes=0.01").wait()
    assert done.codes == [0, 0]
    assert read_status(done.run)["reason"] == "train.max_minutes"


def test_the_end_time_of_a_slurm_job(small: str, tmp_path: Path) -> None:
    end_time = int(time.time() + interrupts.SLURM_MARGIN_SECONDS) + 3
    done = job(small, tmp_path, environment={"SLURM_JOB_END_TIME": str(end_time)}).wait()
    assert read_status(done.run)["reason"] == "Slurm's time limit"


def test_the_end_time_of_a_slurm_job_that_is_over(small: str, tmp_path: Path) -> None:
    """A shell that was opened in a job outlives it, with its variables."""
    left = {"SLURM_JOB_END_TIME": str(int(time.time()) - 99), "SLURM_JOB_ID": "7"}
    done = job(small, tmp_path, "train.epochs=1", environment=left).wait()
    assert read_status(done.run)["state"] == "finished"


def test_kill_9_of_torchrun_leaves_no_process(small: str, tmp_path: Path) -> None:
    process = under_torchrun(small, tmp_path)
    reach(tmp_path, 20)
    process.kill()
    end(process)
    assert read_status(tmp_path / "runs" / "r")["state"] == "preempted"


def test_kill_9_of_a_rank_ends_the_job_and_names_the_rank(small: str, tmp_path: Path) -> None:
    started = job(small, tmp_path)
    reach(tmp_path, 20)
    os.kill(started.pids[1], signal.SIGKILL)
    done = started.wait()
    assert f"rank 1 (pid {started.pids[1]}) died" in done.output
    assert done.codes == [1, -signal.SIGKILL]
    assert read_status(done.run)["state"] == "failed"


def test_max_restarts_resumes(small: str, tmp_path: Path) -> None:
    process = under_torchrun(small, tmp_path, "train.epochs=60", options=("--max-restarts=3",))
    reach(tmp_path, 200)
    os.kill(workers(process)[0], signal.SIGKILL)
    output = end(process)
    assert process.returncode == 0, output
    run = tmp_path / "runs" / "r"
    assert read_status(run)["state"] == "finished"
    assert [event["event"] for event in jsonl.read(run / "events.jsonl")].count("resume") == 1


def importing(pid: int) -> bool:
    """Whether the process runs src.train (no longer a fork of this one) and has started to import torch."""
    with contextlib.suppress(OSError):
        return b"src.train" in Path(f"/proc/{pid}/cmdline").read_bytes() and (
            "libtorch" in Path(f"/proc/{pid}/maps").read_text()
        )
    return False


def test_kill_9_of_torchrun_during_the_start_leaves_no_process(small: str, tmp_path: Path) -> None:
    process = under_torchrun(small, tmp_path)
    while sum(map(importing, workers(process))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    assert "torchrun is gone" not in end(process), "it waited for the store; the kernel should have ended it"
    assert not (tmp_path / "runs" / "r").exists()


def test_a_terminal_shows_a_bar_and_one_line_for_ctrl_c(small: str, tmp_path: Path) -> None:
    """`python -m src.train` shows a progress bar in one line, and no traceback, also when interrupted in its start."""
    command = [
        sys.executable,
        "-m",
        "src.train",
        "model.name=logistic",
        *LONG,
        f"data.root={small}",
        f"run.root={tmp_path / 'runs'}",
    ]
    with terminal(command) as (pid, screen):
        while not importing(pid):
            time.sleep(0.01)
        assert screen.until_ctrl_c() == "^C"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT
    with terminal(command) as (pid, screen):
        reach(tmp_path, 4000)  # for longer than the bar stays as it is
        shown = screen.until_ctrl_c()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    bars = re.findall(r"\r\x1b\[Kepoch +(\d+)/400  step [\d ]\d/64  loss 0\.\d{4}  [\d,]+ samples/s", shown)
    assert len(set(bars)) > 1, shown
    assert shown.count("stopped  SIGINT: saved at epoch") == 1
    assert re.search(r"\r\x1b\[Kstopped  SIGINT.*; run the same command to go on\r\n$", shown), "the bar is left"
    assert "Traceback" not in shown


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
    time.sleep(interrupts.REPEAT_SECONDS + 0.2)
    assert process.poll() is None, "torchrun repeats the first Ctrl-C at once"
    for _ in range(20):  # on a busy machine the first one may be handled late
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            assert process.wait(timeout=1.5) == 130
            return
    raise AssertionError("a second Ctrl-C is not heard")


@pytest.mark.parametrize(("kills", "epochs"), [(5, 10), pytest.param(50, 25, marks=pytest.mark.slow(seconds=26))])
def test_kills_end_at_the_same_weights(kills: int, epochs: int, small: str, tmp_path: Path) -> None:
    """Every process of a short job is killed at random moments; the seed repeats a failure."""
    chance = random.Random(20)
    settings = (
        *SETTINGS,
        f"data.root={small}",
        f"train.epochs={epochs}",
        "train.global_batch_size=8",
        "checkpoint.every_steps=25",
    )
    whole = good_job(2, tmp_path / "whole", *settings)
    expected = read_status(whole.run)["weights_sha256"]
    run = tmp_path / "runs" / "r"
    for kill in range(kills):
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
        if read_status(run).get("state") == "finished":
            assert read_status(run)["weights_sha256"] == expected
            run.rename(tmp_path / f"finished-{kill}")
    final = good_job(2, tmp_path, *settings)
    assert read_status(final.run)["weights_sha256"] == expected
    steps = [(line["kind"], line["step"]) for line in jsonl.read(final.run / "metrics.jsonl")]
    assert steps == [(line["kind"], line["step"]) for line in jsonl.read(whole.run / "metrics.jsonl")]


def saved_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints that were written, in order."""
    events = jsonl.read(folder / "runs" / "r" / "events.jsonl")
    return [event["step"] for event in events if event["event"] == "checkpoint"]


ONE_BY_ONE = ("checkpoint.every_epochs=0", "train.global_batch_size=1")  # 1009 steps an epoch; the best are saved too


def test_a_file_saves_now_and_training_goes_on(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, on two ranks that agree on the step; the weights are those of a run that was not asked to."""
    monkeypatch.setattr(interrupts, "LOOK_SECONDS", 0.05)
    run = tmp_path / "runs" / "r"
    running, asked = job(small, tmp_path, *ONE_BY_ONE, "train.epochs=4"), []
    for _ in range(2):
        reach(tmp_path, before := step(tmp_path) + 20)
        (run / "SAVE").touch()
        deadline = time.monotonic() + 240
        while (run / "SAVE").exists():
            assert running.runs(), running.wait().output
            assert time.monotonic() < deadline
            time.sleep(0.001)
        newest = int(newest_first(run / "checkpoints")[0].stem.removeprefix("step-"))
        assert newest >= before
        asked.append(newest)
    done = running.wait()
    assert done.codes == [0, 0], done.output
    assert asked[0] < asked[1] <= read_status(run)["step"] == 4036
    assert set(asked) <= set(saved_steps(tmp_path)) <= {*asked, 1009, 2018, 3027, 4036}
    plain = good_job(1, tmp_path / "plain", *LONG, f"data.root={small}", *ONE_BY_ONE, "train.epochs=4")
    assert read_status(plain.run)["weights_sha256"] == read_status(run)["weights_sha256"]


def test_saves_by_the_clock_change_no_weights(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "LOOK_SECONDS", 0.05)
    settings = (*LONG, *ONE_BY_ONE, "train.epochs=1", f"data.root={small}")
    timed = good_job(2, tmp_path, *settings, "checkpoint.every_minutes=0.001")
    plain = good_job(1, tmp_path / "plain", *settings)
    steps = saved_steps(tmp_path)
    assert len(steps) > 1
    assert steps == sorted(set(steps))
    assert saved_steps(tmp_path / "plain") == [1009]
    assert read_status(plain.run)["weights_sha256"] == read_status(timed.run)["weights_sha256"]


def test_a_file_of_an_earlier_job_saves_nothing(small: str, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "r"
    run.mkdir(parents=True)
    (run / "SAVE").touch()
    good_job(1, tmp_path, *LONG, *ONE_BY_ONE, "train.epochs=1", f"data.root={small}")
    assert (saved_steps(tmp_path), (run / "SAVE").exists()) == ([1009], False)


def stuck(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[interrupts.Interrupts], None],
    busy: Callable[[], bool] = lambda: False,
) -> Job:
    """A process that gets SIGTERM and does something for two seconds without a step, where 0.5 s are too long."""
    monkeypatch.setattr(interrupts, "STUCK_SECONDS", 0.5)
    monkeypatch.setattr(interrupts, "LOOK_SECONDS", 0.05)

    def work() -> str:
        stop = interrupts.Interrupts(folder / "STOP", 0, busy=busy)
        os.kill(os.getpid(), signal.SIGTERM)
        meanwhile(stop)
        return str(stop.reason)

    return fork(1, work, folder)


def test_a_rank_that_is_stuck_in_a_step_leaves_before_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(stop: interrupts.Interrupts) -> None:
        stop.vote()
        time.sleep(2)

    job = stuck(tmp_path, monkeypatch, meanwhile)
    assert job.codes == [128 + signal.SIGTERM]
    assert job.output == "SIGTERM: no step for 0 s, leaving\n"


def test_an_evaluation_or_a_save_may_take_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(stop: interrupts.Interrupts) -> None:
        stop.vote()
        with stop.patience():
            time.sleep(2)

    job = stuck(tmp_path, monkeypatch, meanwhile)
    assert (job.codes, job.values) == ([0], ["SIGTERM"]), job.output


def test_what_is_written_beside_the_steps_may_take_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(stop: interrupts.Interrupts) -> None:
        stop.vote()
        time.sleep(2)

    job = stuck(tmp_path, monkeypatch, meanwhile, busy=lambda: True)
    assert (job.codes, job.values) == ([0], ["SIGTERM"]), job.output


def test_a_start_may_take_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = stuck(tmp_path, monkeypatch, lambda stop: time.sleep(2))
    assert (job.codes, job.values) == ([0], ["SIGTERM"]), job.output


def test_the_first_reason_to_stop_is_the_one_that_is_told(tmp_path: Path) -> None:
    """Slurm's time is over, and then it sends its signal."""

    def work() -> str:
        stop = interrupts.Interrupts(tmp_path / "STOP", 0)
        stop.reason = StopReason.SLURM_TIME_LIMIT
        os.kill(os.getpid(), signal.SIGUSR1)
        while not stop._signalled:
            time.sleep(0.01)
        return str(stop.reason)

    assert fork(1, work, tmp_path).values == [str(StopReason.SLURM_TIME_LIMIT)]
