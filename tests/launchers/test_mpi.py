"""The variables of MPI's launchers."""

import pytest

from src.errors import UserError
from src.launchers import mpi
from tests.helpers.launched import given


@pytest.mark.parametrize(
    "variables",
    [
        "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=3 OMPI_COMM_WORLD_LOCAL_RANK=1 OMPI_COMM_WORLD_LOCAL_SIZE=3",
        "PMI_RANK=1 PMI_SIZE=3 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=3",
        "MV2_COMM_WORLD_RANK=1 MV2_COMM_WORLD_SIZE=3 MV2_COMM_WORLD_LOCAL_RANK=1 MV2_COMM_WORLD_LOCAL_SIZE=3",
    ],
)
def test_a_rank_of_mpirun(variables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, variables)
    found = mpi.claim(None)
    assert found is not None
    assert (found.rank, found.size, found.local_rank, found.hosts) == (1, 3, 1, ["localhost"])
    monkeypatch.setenv("PMIX_NAMESPACE", "another")
    again = mpi.claim(None)
    assert again is not None
    assert again.port != found.port


def test_several_hosts_are_those_of_the_slurm_job_or_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_LOCAL_SIZE=2")
    found = mpi.claim(None)
    assert found is not None
    assert found.hosts == []
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    found = mpi.claim(None)
    assert found is not None
    assert found.hosts == ["n1", "n2"]


@pytest.mark.parametrize("variables", ["", "PMIX_RANK=0", "OMPI_COMM_WORLD_SIZE=1", "PMI_RANK=0"])
def test_one_process(variables: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, variables)
    assert mpi.claim(None) is None


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ("PMIX_RANK=3", "PMIX_RANK=3: one of several ranks, but PMIX_SIZE is not set"),
        ("OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_SIZE=2: one of several ranks, but OMPI_COMM_WORLD_RANK is not set"),
        ("PMI_RANK=a PMI_SIZE=2", "PMI_RANK=a: must be a whole number"),
        ("PMI_RANK=2 PMI_SIZE=2", "PMI_RANK=2 PMI_SIZE=2: the rank must be below"),
        ("PMI_RANK=0 PMI_SIZE=0", "PMI_RANK=0 PMI_SIZE=0: the rank must be below"),
    ],
)
def test_impossible_variables_are_one_line(variables: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, variables)
    with pytest.raises(UserError) as error:
        mpi.claim(None)
    assert said in str(error.value)
    assert "launch/" in str(error.value)
