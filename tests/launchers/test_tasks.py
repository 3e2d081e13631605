"""Which task this process is: the nearest launcher decides, not what others left in the environment."""

import os

import pytest

from src.errors import UserError
from src.launchers import tasks
from tests.helpers.launched import below, given

STEP = "SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=4 SLURM_STEP_NODELIST=n1 SLURM_PROCID=3"
MPI = "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_SIZE=2"
CLAIM = "(lambda c: c and [c.launcher, c.rank, c.size])(__import__('src.launchers.tasks', fromlist='_').claim())"
RANKS = "(lambda r: [r.rank, r.size, r.note])(environment.ranks())"
PARENT = "RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=1 TORCHELASTIC_RUN_ID=x"


@pytest.mark.parametrize(
    ("launcher", "claim"),
    [
        ("slurmstepd: [5.0]", ["srun", 3, 4]),
        ("slurmstepd: [5.batch]", None),
        ("mpirun", ["mpirun", 1, 2]),
    ],
)
def test_the_nearest_launcher_decides(launcher: str, claim: object) -> None:
    assert below(launcher, CLAIM, f"{STEP} {MPI}") == claim


def test_what_contradicts_itself_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, f"{STEP} {MPI}")
    with pytest.raises(UserError, match=r"SLURM_PROCID=3 .*, OMPI_.*: one of them is not this job's; .*launch/"):
        tasks.claim()


@pytest.mark.parametrize(
    ("variables", "launcher"),
    [
        (STEP + " " + MPI.replace("=2", "=1").replace("RANK=1", "RANK=0"), "srun"),
        (MPI + " " + STEP.replace("=4", "=1").replace("=3", "=0"), "mpirun"),
        (STEP + " PMI_RANK=3 PMI_SIZE=4", "srun"),
        (STEP, "srun"),
        (MPI, "mpirun"),
    ],
)
def test_variables_alone_decide_where_no_launcher_is_seen(
    variables: str, launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, variables)
    found = tasks.claim()
    assert found is not None
    assert found.launcher == launcher


def test_the_ranks_of_a_parent_job_are_not_those_of_srun_s_tasks() -> None:
    """Submitted from inside a torchrun's rank: each of srun's tasks inherits the same RANK."""
    rank, size, note = below("slurmstepd: [5.0]", RANKS, f"{STEP} {PARENT}")
    assert (rank, size) == (3, 4)
    assert note.startswith("RANK=0 WORLD_SIZE=2 ")
    assert note.endswith("set before srun, for another job; not used")


@pytest.mark.parametrize(
    ("before", "within", "ranks"),
    [
        (STEP, PARENT, [0, 2, ""]),  # torchrun below srun
        (f"{STEP} {PARENT}", PARENT.replace("=x", "=y").replace("RANK=0", "RANK=1"), [1, 2, ""]),  # also if nested
        (f"{STEP} RANK=0 WORLD_SIZE=1", "", [0, 1, ""]),  # each task a job of its own
        (f"{STEP} RANK=3 WORLD_SIZE=4", "", [3, 4, ""]),
    ],
)
def test_ranks_that_were_set_for_this_process(before: str, within: str, ranks: list[object]) -> None:
    assert below("slurmstepd: [5.0]", RANKS, before, within) == ranks


def test_nothing_is_inherited_where_no_launcher_is_seen() -> None:
    assert "PATH" in os.environ
    assert not tasks.inherited(("PATH",))
