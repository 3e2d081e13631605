"""The cluster, where it can be; else the reason why not."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ranks import good_job
from tests.slurm.cluster import Cluster, SlurmJob

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "ip", "nsenter", "unshare")
COMMON = ("data.name=digits", "train.sync=bitwise", "train.device=cpu", "checkpoint.every_steps=100", "log.every=20")


def objection() -> str:
    """Why there can be no cluster here, or ''."""
    if os.environ.get("SLURM_TESTS") != "1":
        return "minutes on a real Slurm cluster: run `make test-slurm`"
    if os.geteuid():
        return "a Slurm cluster in namespaces needs root"
    if missing := [name for name in PROGRAMS if not shutil.which(name)]:
        return f"not installed: {' '.join(missing)} (tests/slurm/cluster.sh install)"
    done = subprocess.run(["unshare", "--net", "--pid", "--fork", "--mount", "true"], capture_output=True, text=True)
    return f"no namespaces: {done.stderr.strip()}" if done.returncode else ""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := objection():
        pytest.skip(reason)
    made = Cluster(tmp_path_factory.mktemp("cluster") / "base")
    made.script("up")
    yield made
    made.script("down")


@pytest.fixture(scope="session")
def reference(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """The hash of the weights after so many epochs in one process; it also renders the digits."""
    folder = tmp_path_factory.mktemp("reference")
    root = f"data.root={folder.parent / 'digits'}"

    def digest(epochs: int) -> str:
        settings = (*COMMON, root, "run.name=r", f"train.epochs={epochs}")
        status = good_job(1, folder / str(epochs), *settings).run / "status.json"
        return str(json.loads(status.read_text())["weights_sha256"])

    return digest


Sbatch = Callable[..., SlurmJob]


@pytest.fixture
def sbatch(cluster: Cluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sbatch]:
    """Submit launch/slurm.sbatch to idle nodes: sbatch(*settings, name=, options=(), **variables)."""
    cluster.idle()
    root = f"data.root={tmp_path_factory.getbasetemp() / 'digits'}"
    jobs = []

    def submit(*settings: str, name: str = "r", options: tuple[str, ...] = ("-N", "2"), **variables: str) -> SlurmJob:
        run = tmp_path / name
        command = ["sbatch", "--parsable", "-c", "2", "--time=10", f"--output={run}-%j.out", *options]
        command += ["launch/slurm.sbatch", *COMMON, root, f"run.root={tmp_path}", f"run.name={name}"]
        printed = cluster.run(*command, "track.wandb=disabled", *settings, RUN_OF_TEST=str(run), **variables)
        jobs.append(SlurmJob(cluster, printed.strip(), run))
        return jobs[-1]

    yield submit
    for job in jobs:
        cluster.run("scancel", job.number)
        job.gone()
