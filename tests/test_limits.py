"""The limits of a process: raised where they can be, and one line where they are too low."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from src import limits
from src.errors import JobFailed, UserError
from tests.helpers.ranks import ROOT, fork


def in_fork(work: Callable[[], Any], folder: Path) -> Any:
    """What `work` returns in a process of its own, whose limits may be changed."""
    (value,) = fork(1, work, folder).values
    return value


def limited(ulimit: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m ...` in a shell with a limit."""
    command = ["bash", "-c", f'ulimit {ulimit}; exec "$@"', "bash", sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(tmp_path: Path) -> None:
    def work() -> tuple[int, int]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 500))
        limits.raise_open_files()
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    assert in_fork(work, tmp_path) == (500, 500)


def test_which_limits_are_too_low(tmp_path: Path) -> None:
    def work() -> Any:
        before = limits.too_low(10**6, 64)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_480, 20_480))
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        return before, limits.too_low(10**6, 64)

    before, after = in_fork(work, tmp_path)
    assert before == []
    assert after == [
        ("size of a file: 0.0 MB, a checkpoint takes 1.0", "ulimit -f unlimited"),
        ("open files: 32, the ranks need 64", "ulimit -n 4096"),
    ]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("TORCH_LOGS", "torch cannot be loaded (Invalid log settings: garbage, "),
        ("TORCH_DISTRIBUTED_DEBUG", "torch cannot be loaded (The value of TORCH_DISTRIBUTED_DEBUG must be OFF"),
    ],
)
def test_a_variable_that_torch_refuses_is_named(name: str, says: str) -> None:
    call = [sys.executable, "-m", "src.train", "data.name=digits", "run.root=/dev/null/x"]
    done = subprocess.run(call, cwd=ROOT, env=os.environ | {name: "garbage"}, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {says}")
    assert done.stderr.endswith(f"; correct or unset {name}\n"), done.stderr


def test_a_mistake_of_one_s_own_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_LOGS", "+dynamo")
    for error in (UserError("mine"), KeyError("x")):
        with pytest.raises(type(error), match=str(error)), limits.loading("torch"):
            raise error
    monkeypatch.delenv("TORCH_LOGS")
    with pytest.raises(ValueError, match=r"^theirs$"), limits.loading("torch"):
        raise ValueError("theirs")


def test_a_working_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    def work() -> str:
        (tmp_path / "gone").mkdir()
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        with pytest.raises(UserError) as found, limits.loading("torch"):
            raise AssertionError
        return str(found.value)

    assert in_fork(work, tmp_path) == "the working folder was removed (No such file or directory); cd to another"


def test_memory_that_is_not_there_is_one_line() -> None:
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9\nstack")):
        with pytest.raises(JobFailed, match=r"^no memory is left .*use fewer ranks or a smaller batch$"):
            with limits.naming_memory():
                raise error
    with pytest.raises(RuntimeError, match="another"), limits.naming_memory():
        raise RuntimeError("another")
    with pytest.raises(UserError, match=r"x cannot be loaded \(a.so: failed to map segment\): "), limits.loading("x"):
        raise ImportError("a.so: failed to map segment")
    with pytest.raises(ImportError, match="no module"), limits.loading("x"):
        raise ImportError("no module named x")


@pytest.mark.parametrize("launcher", [(), ("launch.torchrun", "--standalone", "--nproc-per-node=2", "-m")])
def test_too_little_address_space_for_torch(launcher: tuple[str, ...], small: str, tmp_path: Path) -> None:
    settings = ("data.name=idx", f"data.root={small}", f"run.root={tmp_path}")
    done = limited("-v 1000000", *launcher, "src.train", *settings)
    assert done.returncode == 2
    assert done.stderr == (
        "error: torch cannot be loaded (libtorch_cpu.so: failed to map segment from shared object): "
        "ulimit -v allows 1,024 MB; ulimit -v unlimited\n"
    )


@pytest.mark.slow(seconds=5)
def test_doctor_sees_the_limits(tmp_path: Path) -> None:
    settings = (f"run.root={tmp_path}", f"data.root={tmp_path}", "--only", "limits")
    done = limited("-f 20", "src.doctor", *settings)
    assert done.stdout.startswith("red     limits        size of a file: 0.0 MB, a checkpoint takes 0.2")
    assert "ulimit -f unlimited" in done.stdout
    done = limited("-v 1000000", "src.doctor", *settings)
    assert (done.returncode, done.stderr[:29]) == (2, "error: torch cannot be loaded")
    assert limited("-c 0", "src.doctor", *settings).stdout.startswith("green   limits  ")


def test_the_smallest_limits_that_work(small: str, tmp_path: Path) -> None:
    """Few open files, and a limit of a file's size that the checkpoints do not reach."""
    settings = ("data.name=idx", f"data.root={small}", f"run.root={tmp_path}", "train.epochs=1", "track.wandb=disabled")
    done = limited("-n 40 -f 1000", "src.train", *settings)
    assert done.returncode == 0, done.stderr
