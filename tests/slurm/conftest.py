"""A Slurm cluster for the session, skipped with the reason where none can run."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.drill.__main__ import curve
from src.run.run import read_status
from tests.helpers import hosts
from tests.helpers.data_sets import write_data_set
from tests.helpers.hosts import MARK
from tests.helpers.ranks import good_job
from tests.slurm.cluster import COMMON, Cluster, Reference, Sbatch, SlurmJob


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if os.environ.get("SLURM_TESTS") != "1":
        pytest.skip("minutes on a real Slurm cluster: run `make test-slurm`")
    if reason := hosts.objection("slurmctld", "slurmd", "sbatch", "munged"):
        pytest.skip(f"{reason} (tests/slurm/cluster.sh install)")
    made = Cluster(tmp_path_factory.mktemp("cluster") / "base")
    yield made
    made.down()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    folder = tmp_path_factory.mktemp("reference")
    write_data_set(folder / "IDX" / "raw", 6400, 200)
    run = good_job(1, folder, *COMMON, f"data.root={folder}", "run.name=r").run
    return Reference(str(folder), read_status(run)["weights_sha256"], curve(run))


@pytest.fixture
def sbatch(cluster: Cluster, reference: Reference, tmp_path: Path) -> Iterator[Sbatch]:
    """Submit launch/slurm.sbatch: sbatch(*settings, name=, options=(), **variables)."""
    yield from submitting(cluster, reference, tmp_path)


@pytest.fixture(scope="module")
def limited(cluster: Cluster, reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmJob]:
    """A job that runs into its time limit, beside other tests: Slurm takes a minute to warn it.

    A rank is held until the warning is there, so the test does not depend on the machine's speed.
    """
    for submit in submitting(cluster, reference, tmp_path_factory.mktemp("limited")):
        job = submit("track.wandb=offline", options=("--time=2", "--signal=USR1@60"))
        job.reach(200)
        held = job.find("-u -m src.train", RANK="1")
        held.hold()
        threading.Thread(target=held.release_at, args=(signal.SIGUSR1,), daemon=True).start()
        yield job


def submitting(cluster: Cluster, reference: Reference, folder: Path) -> Iterator[Sbatch]:
    """Yields the function that submits jobs; cancels them at the end."""
    jobs = []

    def submit(*settings: str, name: str = "r", options: tuple[str, ...] = (), **variables: str) -> SlurmJob:
        run = folder / name
        command = ["sbatch", "--parsable", "-N", "2", "-c", "1", "--time=10", f"--output={run}-%j.out", *options]
        command += ["launch/slurm.sbatch", *COMMON, f"data.root={reference.data}", f"run.root={folder}"]
        command += [f"run.name={name}", "track.wandb=disabled", *settings]
        jobs.append(SlurmJob(cluster, cluster.run(*command, **variables, **{MARK: str(run)}).strip(), run))
        return jobs[-1]

    yield submit
    for job in jobs:
        cluster.run("scancel", job.number)
        job.gone()
