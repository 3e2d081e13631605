"""This process's rank, and how many ranks a host takes: one rule for the launchers and the doctor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from src import environment, resources
from src.errors import UserError
from tests.helpers.launched import given
from tests.helpers.ranks import ROOT

AVAILABLE = sorted(os.sched_getaffinity(0))
VARIABLES = ("SLURM_JOB_ID", "SLURM_GPUS_ON_NODE", "SLURM_CPUS_ON_NODE", "RANKS_PER_NODE", "CUDA_VISIBLE_DEVICES")


@pytest.fixture(autouse=True)
def plain_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No GPU, no Slurm, no quota."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(resources, "CGROUP", tmp_path / "cgroup")
    nvidia_smi(tmp_path, monkeypatch, count=0)


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """An nvidia-smi that lists so many GPUs."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir(exist_ok=True)
    lines = "".join(f"echo 'GPU {number}: NVIDIA H100 (UUID: GPU-{number})'\n" for number in range(count))
    program.write_text(f"#!/bin/sh\n{lines or 'exit 9'}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_gpus_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvidia_smi(tmp_path, monkeypatch, count=16)
    monkeypatch.setenv("RANKS_PER_NODE", "3")
    assert environment.ranks_per_node() == 16
    for visible, count in (("0,1", 2), ("", 0), ("-1", 0), ("0,-1,1", 1), ("GPU-3", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert environment.gpus() == count, visible


def test_an_nvidia_smi_that_hangs_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin" / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(environment, "NVIDIA_SMI_SECONDS", 0.2)
    with pytest.raises(UserError, match=r"nvidia-smi: no answer within 0.2 s; .*give the number of ranks"):
        environment.ranks_per_node()


def test_then_the_number_that_the_user_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKS_PER_NODE", "12")
    assert environment.ranks_per_node() == 12
    for wrong in ("0", "many", "-1"):
        monkeypatch.setenv("RANKS_PER_NODE", wrong)
        with pytest.raises(UserError, match=f"RANKS_PER_NODE={wrong}: must be a whole number of at least 1"):
            environment.ranks_per_node()


def test_then_what_slurm_allocates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nvidia_smi(tmp_path, monkeypatch, count=8)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "48")
    assert environment.ranks_per_node() == 48, "GPUs of the node that are not allocated do not count"
    monkeypatch.setenv("SLURM_GPUS_ON_NODE", "2")
    assert environment.ranks_per_node() == 2


def test_then_processors_and_at_most_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, ranks in ((3, 3), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=available: set(range(count)))
        assert environment.ranks_per_node() == ranks


def launched(*words: str, **variables: str) -> str:
    """Ranks that launch/local.sh hands to torchrun, which a stand-in for Python prints instead."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run([*words, "launch/local.sh"], cwd=ROOT, env=kept | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(word.partition("=")[2] for word in done.stdout.split() if word.startswith("--nproc-per-node="))


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A Python that runs `launch.job`, and prints the arguments of everything else."""
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\n[ "$2" != launch.job ] || exec {sys.executable} "$@"\necho "$@"\n')
    program.chmod(0o755)
    return str(program)


def test_local_starts_a_rank_for_each_processor_whatever_openmp_is_told(python: str) -> None:
    expected = str(min(resources.processors(), environment.MAX_DEFAULT_RANKS))
    # The real quota of this machine's container counts in the child, which plain_host hides here.
    real = subprocess.run([sys.executable, "-m", "launch.job", "ranks"], cwd=ROOT, capture_output=True, text=True)
    assert int(real.stdout) <= int(expected)
    assert launched(PYTHON=python, OMP_NUM_THREADS="1") == real.stdout.strip()
    if len(AVAILABLE) > 1 and int(real.stdout) > 1:
        assert launched("taskset", "--cpu-list", str(AVAILABLE[0]), PYTHON=python, OMP_NUM_THREADS="4") == "1"


@pytest.mark.parametrize("script", ["launch/local.sh", "launch/node.sh"])
def test_a_launcher_ends_with_the_error_of_the_rule(script: str, python: str) -> None:
    variables = {"PYTHON": python, "RANKS_PER_NODE": "x", "HEAD": "a:1", "NODES": "1", "JOB": "1"}
    done = subprocess.run([script], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: RANKS_PER_NODE=x: must be a whole number of at least 1\n"


def test_a_world_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in ("", "RANK= WORLD_SIZE= LOCAL_RANK=", "RANK=0 WORLD_SIZE=1", "MASTER_ADDR=a MASTER_PORT=1"):
        given(monkeypatch, variables)
        assert environment.ranks() == environment.Ranks()
        assert environment.reports_mistakes()


def test_what_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "RANK=3 WORLD_SIZE=4 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 TORCHELASTIC_RUN_ID=x")
    found = environment.ranks()
    assert (found.rank, found.size, found.local_rank, found.local_size, found.by_torchrun) == (3, 4, 1, 2, True)
    assert not environment.reports_mistakes(), "torchrun shows them, and rank 0 prints them"


@pytest.mark.parametrize(
    ("variables", "local", "reports"),
    [
        ("RANK=3 WORLD_SIZE=4", (None, None), True),
        ("RANK=3 WORLD_SIZE=4 LOCAL_RANK=1", (1, None), False),
        ("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 SLURM_STEP_NODELIST=n[1-2] SLURM_LOCALID=0", (0, None), True),
        ("PMI_RANK=1 PMI_SIZE=2 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=2", (1, None), False),
    ],
)
def test_what_is_not_said_of_this_host_is_not_assumed(
    variables: str, local: tuple[int | None, int | None], reports: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, variables)
    found = environment.ranks()
    assert ((found.local_rank, found.local_size), found.by_torchrun) == (local, False)
    assert environment.reports_mistakes() == reports


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ("RANK=abc WORLD_SIZE=2", "RANK=abc: must be a whole number"),
        ("RANK=0 WORLD_SIZE=2x", "WORLD_SIZE=2x: must be a whole number"),
        ("RANK=\u00b2 WORLD_SIZE=3", "RANK=\u00b2: must be a whole number"),
        ("RANK=0 WORLD_SIZE=0", "RANK=0 WORLD_SIZE=0: the rank must be below the world size"),
        ("RANK=5 WORLD_SIZE=2", "RANK=5 WORLD_SIZE=2: the rank must be below the world size"),
        ("RANK=0", "RANK=0: set, but WORLD_SIZE is not"),
        ("WORLD_SIZE=2", "WORLD_SIZE=2: set, but RANK is not"),
        ("LOCAL_RANK=1 LOCAL_WORLD_SIZE=2", "LOCAL_RANK=1 LOCAL_WORLD_SIZE=2: set, but RANK is not"),
        ("RANK=0 WORLD_SIZE=4 LOCAL_RANK=x", "LOCAL_RANK=x: must be a whole number"),
        ("RANK=0 WORLD_SIZE=4 LOCAL_RANK=2 LOCAL_WORLD_SIZE=2", "LOCAL_RANK < LOCAL_WORLD_SIZE <= WORLD_SIZE is not"),
        ("RANK=0 WORLD_SIZE=2 LOCAL_WORLD_SIZE=4", "LOCAL_RANK < LOCAL_WORLD_SIZE <= WORLD_SIZE is not"),
        ("RANK=0 WORLD_SIZE=2 LOCAL_WORLD_SIZE=0", "LOCAL_RANK < LOCAL_WORLD_SIZE <= WORLD_SIZE is not"),
    ],
)
def test_impossible_variables_are_one_line_with_the_way_out(
    variables: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, variables)
    with pytest.raises(UserError) as error:
        environment.ranks()
    assert said in str(error.value)
    assert "env -u RANK" in error.value.fix
    assert environment.reports_mistakes()


def test_ranks_on_hosts_of_which_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_SIZE=2")
    with pytest.raises(
        UserError, match=r"nothing says where the first one is; mpirun with MASTER_ADDR=.*launch/node.sh"
    ):
        environment.ranks()
    monkeypatch.setenv("MASTER_ADDR", "n1")
    assert environment.ranks().size == 4


def test_what_slurm_allocates_may_be_rubbish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 2, 3})
    for value in ("0", "many", "-1", "\u00b2", ""):
        given(monkeypatch, f"SLURM_JOB_ID=7 SLURM_CPUS_ON_NODE={value} SLURM_GPUS_ON_NODE={value}")
        assert environment.ranks_per_node() == 3
