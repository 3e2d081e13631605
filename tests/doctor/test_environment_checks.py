"""What the doctor says of variables and limits that something else left behind."""

import resource
import subprocess
import sys
import time

import pytest

from src.doctor import environment_checks, host_checks
from src.errors import UserError
from tests.helpers.launched import forget, given
from tests.helpers.plans import planned
from tests.helpers.ranks import ROOT


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    forget(monkeypatch)
    monkeypatch.setenv("OMP_NUM_THREADS", "4,2")
    assert environment_checks.variables(planned()).colour == "green"
    given(monkeypatch, "PMI_RANK=1 PMI_SIZE=2 MPI_LOCALNRANKS=2")
    found = environment_checks.variables(planned())
    assert (found.colour, found.message) == ("green", "rank 1 of 2 (PMI_RANK=1 PMI_SIZE=2)")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ("RANK=0 WORLD_SIZE=4", "RANK=0 WORLD_SIZE=4: a training from here waits for 3 other rank(s)"),
        ("SLURM_JOB_ID=7 SLURM_JOB_END_TIME=99", "SLURM_JOB_ID=7: this job's time is over"),
        ("SLURM_JOB_ID=7 SLURM_JOB_NODELIST=no[1-2]", "is not one of its hosts (no[1-2])"),
        ("SLURM_JOB_ID=7 SLURM_JOB_NODELIST=no[1-", "no[1-: brackets that do not match"),
        ("PET_NNODES=2", "PET_NNODES: torchrun takes options from them"),
        ("OMP_NUM_THREADS=many", "OMP_NUM_THREADS=many: is no number of threads"),
    ],
)
def test_what_is_left_behind_is_yellow(variables: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, variables)
    found = environment_checks.variables(planned())
    assert (found.colour, said in found.message, found.fix != "") == ("yellow", True, True), found


def test_a_slurm_job_on_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    end = int(time.time()) + 999
    given(monkeypatch, f"SLURM_JOB_ID=7 SLURM_JOB_NODELIST=n[1-2] SLURMD_NODENAME=n2 SLURM_JOB_END_TIME={end}")
    assert environment_checks.variables(planned()).colour == "green"


@pytest.mark.parametrize("variables", ["", "SLURM_JOB_NODELIST=n[1-2]"])
def test_a_host_with_a_domain_and_a_job_without_a_list(variables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, f"SLURM_JOB_ID=7 {variables}".strip())
    monkeypatch.setattr("socket.gethostname", lambda: "n2.cluster.example")
    assert environment_checks.variables(planned()).colour == "green"


def test_impossible_variables_are_red(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "RANK=abc WORLD_SIZE=2")
    with pytest.raises(UserError, match="RANK=abc: must be a whole number"):  # red: examination.Examination
        environment_checks.variables(planned())


def test_a_limit_of_cpu_time_is_yellow(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = resource.RLIM_INFINITY
    limited = {resource.RLIMIT_CPU: (60, 60)}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limited.get(kind, (unlimited, unlimited)))
    found = host_checks.process_limits(planned())
    assert (found.colour, found.fix) == ("yellow", "ulimit -t unlimited")
    limited.clear()
    assert host_checks.process_limits(planned()).colour == "green"


def test_a_training_without_the_memory_for_torch_is_one_line(small: str, tmp_path: object) -> None:
    settings = f"data.name=idx data.root={small} run.root={tmp_path} track.wandb=disabled"
    command = f"ulimit -v 2000000; exec {sys.executable} -m src.train {settings}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: torch cannot be loaded (")
    assert done.stderr.endswith("; ulimit -v unlimited\n")
    assert len(done.stderr.splitlines()) == 1
