"""The nearest launcher among the processes above this one."""

import os
import subprocess

import pytest

from src.launchers import ancestors
from tests.helpers.launched import below
from tests.helpers.shims import until

NEAREST = (
    "(lambda found: found and [found.kind, found.step])(__import__('src.launchers.ancestors', fromlist='_').nearest())"
)


@pytest.mark.parametrize(
    ("launcher", "found"),
    [
        ("slurmstepd: [77.0]", ["slurm", "0"]),
        ("slurmstepd: [77.batch]", ["slurm", "batch"]),
        ("slurmstepd: [77+1.interactive]", ["slurm", "interactive"]),
        ("/usr/bin/mpirun", ["mpi", ""]),
        ("hydra_pmi_proxy", ["mpi", ""]),
        ("bash", None),
    ],
)
def test_the_nearest_launcher(launcher: str, found: object) -> None:
    assert below(launcher, NEAREST) == found


def test_what_a_process_was_started_with() -> None:
    with subprocess.Popen(["sleep", "100"], env={"A": "1=2"}, text=True) as process:
        until(lambda: ancestors.command(process.pid)[0] == "sleep", process)  # until then it is a fork of this process
        found = ancestors.variables(process.pid), ancestors.command(process.pid)
        process.kill()
    assert found == ({"A": "1=2"}, ["sleep", "100", ""])
    assert ancestors.variables(process.pid) == {}
    assert ancestors.command(process.pid) == [""]
    assert ancestors.command(os.getpid()) != [""]
