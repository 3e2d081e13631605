"""File systems and clocks that misbehave: faults.c, preloaded into processes of this project."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.once import made_once
from tests.helpers.ranks import HUNG_SECONDS, ROOT

SOURCE = Path(__file__).with_name("faults.c")


class Shim:
    """Starts commands whose calls fail as `faults` says: a call's name and an errno's, `link=EPERM`."""

    def __init__(self, library: Path) -> None:
        self._library = library

    def environment(
        self, *faults: str, under: Path | str = "", when: Path | None = None, clock: float = 0, sleep: float = 0
    ) -> dict[str, str]:
        """The variables; `faults` concern files whose path contains `under`, as long as the file `when` is there."""
        pairs = [fault.split("=") for fault in faults]
        variables = {"LD_PRELOAD": str(self._library), "SHIM_UNDER": str(under)}
        variables["SHIM_FAULTS"] = ",".join(f"{call}={getattr(errno, name)}" for call, name in pairs)
        if when is not None:
            variables["SHIM_WHEN"] = str(when)
        if clock:
            variables["SHIM_CLOCK"] = str(clock)
        if sleep:
            variables["SHIM_SLEEP"] = str(sleep)
        return os.environ | variables


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Shim:
    """The compiled shim; skips where no C compiler is."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc: apt-get install gcc libc6-dev")

    def build(folder: Path) -> None:
        command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(folder / "faults.so"), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)

    return Shim(made_once(tmp_path_factory, "shim", build) / "faults.so")


def start(environment: dict[str, str], module: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start `python -m MODULE`; its output and errors are in `.stdout`."""
    variables = {name: value for name, value in environment.items() if name not in ("RANK", "WORLD_SIZE")}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(environment: dict[str, str], module: str, *arguments: str) -> tuple[int, str]:
    """(exit code, output and errors) of `python -m MODULE`."""
    process = start(environment, module, *arguments)
    output, _ = process.communicate(timeout=HUNG_SECONDS)
    assert "Traceback" not in output, output
    return process.returncode, output


def settings(small: str, folder: Path, *more: str) -> list[str]:
    """A short training on the small data set: 16 steps an epoch."""
    fixed = ["model.name=logistic", "data.name=idx", f"data.root={small}", f"run.root={folder / 'runs'}", "run.name=r"]
    return [*fixed, "train.epochs=2", "track.wandb=disabled", "train.device=cpu", *more]


def until(true: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Wait until it is true; fails if the process ends before."""
    deadline = time.monotonic() + HUNG_SECONDS
    while not true():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.01)
