"""The variables of Slurm: a step's task is a rank, a batch script's process is alone."""

import time

import pytest

from src.errors import UserError
from src.launchers import slurm
from tests.helpers.launched import given

STEP = "SLURM_JOB_ID=5 SLURM_STEP_ID=0 SLURM_STEP_NUM_TASKS=3 SLURM_STEP_NODELIST=n[01-02]"
BATCH = "SLURM_JOB_ID=5 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=4 SLURM_JOB_NODELIST=n[1-2]"


@pytest.mark.parametrize(
    ("listed", "hosts"),
    [
        ("a", ["a"]),
        ("n[01-03,7],m2", ["n01", "n02", "n03", "n7", "m2"]),
        ("r[1-2]n[08-10]-ib,x", [*(f"r{rack}n{node}-ib" for rack in (1, 2) for node in ("08", "09", "10")), "x"]),
        ("", []),
    ],
)
def test_a_list_of_hosts(listed: str, hosts: list[str]) -> None:
    assert slurm.expand(listed) == hosts


@pytest.mark.parametrize("listed", ["n[1-", "n]1", "n[a]", "n[3-1]", "n[[1]]", "n[1-999999999]"])
def test_what_is_no_list_of_hosts(listed: str) -> None:
    with pytest.raises(UserError, match="list of hosts; write a,b,c"):
        slurm.expand(listed)


def test_a_task_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, f"{STEP} SLURM_PROCID=2 SLURM_LOCALID=1 SLURM_NTASKS=9")
    found = slurm.claim(None)
    assert found is not None
    assert (found.rank, found.size, found.local_rank, found.hosts) == (2, 3, 1, ["n01", "n02"])
    assert found.port in slurm.PORTS
    ports = {found.port}
    for name in ("SLURM_STEP_ID", "SLURM_RESTART_COUNT", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "1")
        ports.add(slurm.port())
    assert len(ports) == 4, "another step, another attempt and another job each meet on another port"


def test_the_number_of_tasks_where_only_the_old_variables_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "SLURM_PROCID=1 SLURM_NTASKS=2 SLURM_LOCALID=1 SLURM_STEP_NODELIST=n1")
    found = slurm.claim(None)
    assert found is not None
    assert (found.rank, found.size) == (1, 2)


@pytest.mark.parametrize(
    "variables",
    [
        BATCH,
        BATCH.replace("SLURM_PROCID=0", ""),  # a shell of salloc
        f"{BATCH} SLURM_STEP_ID=4294967290 SLURM_STEP_NUM_TASKS=4",  # its interactive step
        # sbatch from inside a step: the step's variables are in the new batch script
        f"{STEP} SLURM_PROCID=0 SLURM_TASKS_PER_NODE=1 SLURM_STEP_TASKS_PER_NODE=2,1",
    ],
)
def test_a_process_of_its_own(variables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, variables)
    assert slurm.claim(None) is None


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (f"{STEP} SLURM_PROCID=x", "SLURM_PROCID=x: must be a whole number"),
        (f"{STEP} SLURM_PROCID=3", "SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=3: the number of a task must be below"),
        (STEP.replace("=3", "=0") + " SLURM_PROCID=0", "SLURM_STEP_NUM_TASKS=0: the number of a task must be below"),
        (STEP.replace("n[01-02]", "n[") + " SLURM_PROCID=0", "brackets that do not match"),
        (STEP.replace("n[01-02]", "") + " SLURM_PROCID=0", "no SLURM_STEP_NODELIST says on which host"),
        ("SLURM_PROCID=2 SLURM_NTASKS=4", "SLURM_PROCID=2: a task of no step"),
    ],
)
def test_impossible_variables_are_one_line_that_names_launch(
    variables: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, variables)
    with pytest.raises(UserError) as error:
        slurm.claim(None)
    assert said in str(error.value)
    assert "launch/" in str(error.value) or "write a,b,c" in str(error.value)


def test_the_end_of_an_earlier_job_is_not_this_one_s(monkeypatch: pytest.MonkeyPatch) -> None:
    now = int(time.time())
    for value, end in ((str(now + 99), now + 99), (str(now - 99), float("inf")), ("soon", float("inf"))):
        monkeypatch.setenv("SLURM_JOB_END_TIME", value)
        assert slurm.end_time() == end
