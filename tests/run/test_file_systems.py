"""A job on file systems that lack something, fail later, or are taken away: it trains, or says so in one line."""

import os
import re
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from src.run import archive, jsonl, layout
from src.run.layout import ExitCode, read_status
from tests.helpers.commands import command
from tests.helpers.shims import Shim, run, settings, start, until

LONG = ("train.epochs=60", "log.every=4", "checkpoint.every_epochs=2")
LACKING = {
    "FUSE": ("flock=ENOSYS", "link=EPERM", "fsync_folder=EINVAL"),
    "CIFS": ("flock=ENOTSUP", "link=ENOTSUP", "fsync_folder=EINVAL", "fsync=EINVAL"),
    "NFS without its lock server": ("flock=ENOLCK", "link=EMLINK", "fsync_folder=EBADF"),
    "several devices": ("flock=EINVAL", "link=EXDEV", "fsync_folder=EACCES"),
}
FAILING = {
    "quota": (("write=EDQUOT",), "Disk quota exceeded", "the quota is used up: delete files there"),
    "full": (("write=ENOSPC", "pwrite64=ENOSPC"), "No space left on device", "make room there"),
    "read-only": (("open=EROFS", "mkdir=EROFS", "unlink=EROFS", "rename=EROFS"), "Read-only file system", "mount it"),
    "lost": (("stat=ESTALE", "open=ESTALE", "read=ESTALE"), "Stale file handle", "mount it again"),
    "damaged": (("fsync=EIO",), "Input/output error", "look at the disk"),
}


def some_slow(cases: Iterable[Any], daily: int, seconds: int) -> list[Any]:
    """The first `daily` cases every day, the others where the slow tests are run."""
    slow = pytest.mark.slow(seconds=seconds)
    return [case if at < daily else pytest.param(case, marks=slow) for at, case in enumerate(cases)]


@pytest.mark.parametrize("faults", some_slow(LACKING.values(), 1, 5), ids=LACKING)
def test_what_a_file_system_lacks_costs_a_warning_at_most(
    faults: tuple[str, ...], shim: Shim, small: str, tmp_path: Path
) -> None:
    environment = shim.environment(*faults, under=tmp_path / "runs")
    arguments = settings(small, tmp_path, "checkpoint.keep=1", "train.sync=bitwise")
    code, output = run(environment, "src.train", *arguments)
    assert code == 0, output
    (warning,) = re.findall(r"^warning: (.*)$", output, re.MULTILINE)
    assert re.match(r"\S+/r: this file system has no locks \(.*\): start no second job on this run", warning)
    checkpoints = tmp_path / "runs" / "r" / "checkpoints"
    assert sorted(file.name for file in checkpoints.iterdir()) == ["best.pt", "step-00000032.pt"]
    assert (checkpoints / "best.pt").read_bytes() == (checkpoints / "step-00000032.pt").read_bytes()
    code, output = run(environment, "src.train", *arguments)
    assert (code, "is finished" in output) == (0, True)


@pytest.mark.slow(seconds=11)
def test_status_and_doctor_where_there_are_no_locks(shim: Shim, small: str, tmp_path: Path) -> None:
    environment = shim.environment("flock=ENOSYS", "link=EPERM", "fsync_folder=EINVAL", under=tmp_path)
    arguments = settings(small, tmp_path, *LONG, "train.epochs=3000")
    job, path = start(environment, "src.train", *arguments), tmp_path / "runs" / "r"
    until(lambda: read_status(path).get("step"), job)
    assert " running " in run(environment, "src.status", str(tmp_path / "runs"))[1]
    code, output = run(environment, "src.train", *arguments)
    assert (code, f"is in use by host {os.uname().nodename}, pid {job.pid}; wait" in output) == (2, True)
    job.kill()
    job.communicate()
    assert " killed " in run(environment, "src.status", str(tmp_path / "runs"))[1]
    code, output = run(environment, "src.doctor", *arguments, "--only", "run")
    assert code == 0, output
    assert output.startswith("yellow")
    for part in ("no locks (Function not implemented)", "no hard links (Operation not permitted): best.pt is a copy"):
        assert part in output


@pytest.mark.parametrize("case", some_slow(FAILING.values(), 2, 10), ids=FAILING)
def test_a_disk_that_fails_while_training(
    case: tuple[tuple[str, ...], str, str], shim: Shim, small: str, tmp_path: Path
) -> None:
    """One warning for each record, a clear end that says try again, and the same command goes on."""
    faults, reason, advice = case
    when, path = tmp_path / "when", tmp_path / "runs" / "r"
    arguments = settings(small, tmp_path, *LONG, "train.sync=bitwise")
    job = start(shim.environment(*faults, under=path.parent, when=when), "src.train", *arguments)
    until(lambda: read_status(path).get("step", 0) >= 32, job)
    when.touch()
    output, _ = job.communicate(timeout=240)
    assert job.returncode == ExitCode.TRY_AGAIN, output
    assert "Traceback" not in output
    newest = int(layout.newest_first(path / "checkpoints")[0].stem.removeprefix("step-"))
    told = [line for line in output.splitlines() if line.startswith(("warning: ", "error: "))]
    assert all(reason in line for line in told), output
    assert len({line.split(": ")[1] for line in told}) >= len(told) - 1, "once for each file"
    assert re.search(rf"^error: {path}/checkpoints: {reason}: step 960 cannot be saved, step {newest} is; ", told[-1])
    assert told[-1].endswith(", and run the same command")
    assert advice in told[-1]
    assert read_status(path)["step"] <= newest < 960
    when.unlink()
    again = command("src.train", *arguments)
    assert (again.returncode, f"(resumed at step {newest})" in again.stdout) == (0, True), again.stdout + again.stderr
    steps = [line["step"] for line in jsonl.read(path / layout.METRICS) if line["kind"] == "train"]
    assert steps == sorted(set(steps))


@pytest.mark.slow(seconds=15)
@pytest.mark.parametrize("faults", [("write=ENOSPC",), ("rename=EBUSY",), ("open=EIO", "mkdir=EIO")])
def test_a_disk_that_fails_for_a_while(faults: tuple[str, ...], shim: Shim, small: str, tmp_path: Path) -> None:
    when, path = tmp_path / "when", tmp_path / "runs" / "r"
    environment = shim.environment(*faults, under=path.parent, when=when)
    job = start(environment, "src.train", *settings(small, tmp_path, *LONG, "train.epochs=300"))
    until(lambda: read_status(path).get("step", 0) >= 32, job)
    when.touch()
    time.sleep(0.5)  # the job goes on for several seconds
    when.unlink()
    output, _ = job.communicate(timeout=240)
    assert (job.returncode, read_status(path)["step"]) == (0, 4800), output
    lines = list(jsonl.read(path / layout.METRICS))
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(4, 4801, 4))


@pytest.mark.parametrize("taken", some_slow(["r", ".", "r/checkpoints"], 1, 10))
def test_a_folder_that_is_taken_away(taken: str, shim: Shim, small: str, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "r"
    arguments = settings(small, tmp_path, *LONG)
    job = start(shim.environment(), "src.train", *arguments)
    until(lambda: read_status(path).get("step", 0) >= 32, job)
    (tmp_path / "runs" / taken).rename(tmp_path / "elsewhere")
    output, _ = job.communicate(timeout=240)
    assert (job.returncode, "Traceback" in output) == (0, False), output
    assert read_status(path)["state"] == "finished"
    assert archive.read(path / "checkpoints" / "step-00000960.pt")["progress"]["step"] == 960
    if taken != "r/checkpoints":
        assert output.count(f"warning: {path}: was removed or renamed while training; it is made again") == 1
    again = command("src.train", *arguments)
    assert (again.returncode, "is finished" in again.stdout) == (0, True)
    shutil.rmtree(tmp_path / "elsewhere")


@pytest.mark.parametrize("seconds", some_slow([86_400, -86_400, 10**9, -(10**9)], 1, 8))
def test_a_clock_that_jumps_ends_and_spoils_nothing(seconds: int, shim: Shim, small: str, tmp_path: Path) -> None:
    when, path = tmp_path / "when", tmp_path / "runs" / "r"
    environment = shim.environment(clock=seconds, when=when)
    environment["SLURM_JOB_END_TIME"] = str(int(time.time()) + 3600)
    job = start(environment, "src.train", *settings(small, tmp_path, *LONG, "train.max_minutes=30", "log.seconds=0"))
    until(lambda: read_status(path).get("step", 0) >= 32, job)
    when.touch()
    output, _ = job.communicate(timeout=240)
    assert (job.returncode, read_status(path)["step"]) == (0, 960), output
    rates = [line["samples_per_second"] for line in jsonl.read(path / layout.METRICS) if line["kind"] == "train"]
    assert all(0 < rate < 1e8 for rate in rates)
    assert not re.search(r"-\d+(:| day)|\d+ days", output)
    code, output = run(environment, "src.status", str(path))
    assert (code, " finished " in output) == (0, True)


def test_an_end_of_a_slurm_job_that_is_over_is_not_this_job_s(shim: Shim, small: str, tmp_path: Path) -> None:
    environment = shim.environment() | {"SLURM_JOB_END_TIME": "1000000000"}
    code, output = run(environment, "src.train", *settings(small, tmp_path))
    assert (code, read_status(tmp_path / "runs" / "r")["state"]) == (0, "finished"), output


LOST = ("stat=ESTALE", "open=ESTALE", "read=ESTALE")
STARTS = {
    "src.train": (2, "error: run.root={}: {}/r cannot be written (Stale file handle); the file server has lost it"),
    "src.status": (2, "error: {}: cannot be read (Stale file handle); the file server has lost it: mount it again"),
    "src.evaluate": (2, "error: {}/r: cannot be read (Stale file handle); the file server has lost it: mount it again"),
    "src.doctor": (1, "red     run           {}/r/config.yaml: Stale file handle  -> the file server has lost it"),
}


@pytest.mark.parametrize("module", some_slow(STARTS, 2, 5))
def test_a_folder_of_runs_that_does_not_answer(module: str, shim: Shim, small: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / "r").mkdir(parents=True)
    chosen = settings(small, tmp_path)
    arguments = {
        "src.train": chosen,
        "src.status": [str(tmp_path / "runs")],
        "src.evaluate": [str(tmp_path / "runs" / "r")],
        "src.doctor": [*chosen, "--only", "run"],
    }
    code, output = run(shim.environment(*LOST, under=tmp_path / "runs"), module, *arguments[module])
    expected, line = STARTS[module]
    assert code == expected
    assert output.startswith(line.replace("{}", str(tmp_path / "runs"))), output


DATA = {
    "read-only": (("open=EROFS", "mkdir=EROFS"), ""),
    "without locks": (("flock=ENOSYS",), ""),
    "damaged": (("read=EIO",), "train-images-idx3-ubyte: cannot be read (Input/output error)"),
    "lost": (("stat=ESTALE",), "IDX/raw cannot be read (Stale file handle); the file server has lost it: mount it"),
}


@pytest.mark.slow(seconds=4)
@pytest.mark.parametrize(("faults", "said"), DATA.values(), ids=DATA)
def test_a_folder_of_data(faults: tuple[str, ...], said: str, shim: Shim, small: str, tmp_path: Path) -> None:
    environment = shim.environment(*faults, under=Path(small) / "IDX")
    code, output = run(environment, "src.train", *settings(small, tmp_path))
    assert (code, said in output) == (2 if said else 0, True), output


@pytest.mark.slow(seconds=4)
def test_a_full_folder_of_data_and_one_of_another_name(shim: Shim, small: str, tmp_path: Path) -> None:
    environment = shim.environment("open=EROFS", "mkdir=EROFS", under=tmp_path / "data")
    code, output = run(environment, "src.train", "data.name=digits", f"data.root={tmp_path / 'data'}")
    assert code == 2
    assert (
        "cannot be written (Read-only file system); mount it for writing, or name another folder with data.root="
        in output
    )
    code, output = run(environment, "src.train", "data.name=idx", f"data.root={small}/IDX")
    assert (code, f"the files are in {small}/IDX/raw: data.root={small}?" in output) == (2, True)
