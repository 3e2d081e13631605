"""Ranks that srun starts without torchrun, and jobs whose environment is another job's or none: `make test-slurm`."""

import shlex
import sys
from pathlib import Path

import pytest

from src.run.layout import read_status
from tests.helpers.hosts import MARK, wait
from tests.helpers.ranks import ROOT
from tests.slurm.cluster import COMMON, Cluster, Reference, Sbatch, SlurmJob


def trained(reference: Reference, folder: Path, name: str) -> str:
    """The shell command that trains this run."""
    settings = (
        *COMMON,
        f"data.root={reference.data}",
        f"run.root={folder}",
        f"run.name={name}",
        "track.wandb=disabled",
    )
    return shlex.join([sys.executable, "-m", "src.train", *settings])


def batch(cluster: Cluster, log: Path, *words: str, **variables: str) -> str:
    """Run a batch job to its end; what it printed."""
    cluster.run("sbatch", "-W", "-D", str(ROOT), "-o", str(log), "--time=10", *words, **variables)
    return log.read_text()


def test_srun_s_tasks_are_ranks_and_the_batch_script_is_alone(
    cluster: Cluster, reference: Reference, tmp_path: Path
) -> None:
    """Also with what is left of a torchrun from whose rank the job was submitted."""
    srun, alone = trained(reference, tmp_path, "srun"), trained(reference, tmp_path, "alone")
    parent = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "gone", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x"}
    left = "env -u RANK -u WORLD_SIZE"
    log = batch(cluster, tmp_path / "log", "-N2", "-n3", f"--wrap={left} {alone} && srun -n3 {srun}", **parent)
    assert read_status(tmp_path / "alone").get("world_size") == 1, log
    assert read_status(tmp_path / "srun").get("world_size") == 3, log
    assert reference.has(tmp_path / "srun")
    assert reference.has(tmp_path / "alone")
    assert "set before srun, for another job; not used" in log


def test_a_job_without_the_environment_of_its_user(sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch(options=("--export=NONE",))
    facts = job.end()
    assert (facts["JobState"], facts["ExitCode"]) == ("COMPLETED", "0:0"), job.log()
    assert reference.has(job.run), job.log()
    assert job.status()["world_size"] == 2


def test_a_job_from_inside_an_array_s_step_is_itself(cluster: Cluster, reference: Reference, tmp_path: Path) -> None:
    """Its parent's array, step and file are in its environment; what it requeues is itself."""
    run = tmp_path / "r"
    inner = [
        "sbatch",
        "--parsable",
        "-N1",
        "-c2",
        "--time=10",
        f"--output={run}-%j.out",
        "launch/slurm.sbatch",
        *COMMON,
    ]
    inner += [f"data.root={reference.data}", f"run.root={tmp_path}", "run.name=r", "track.wandb=disabled"]
    submit = f"[[ $SLURM_PROCID == 1 ]] || {shlex.join(inner)} >{shlex.quote(str(tmp_path / 'number'))}"
    outer = f"--wrap=srun -n2 bash -c {shlex.quote(submit)}"
    variables = {MARK: str(run), "ARRAY_FILE": "/no/such/file"}
    batch(cluster, tmp_path / "outer", "--array=2", "-n2", outer, **variables)
    job = SlurmJob(cluster, (tmp_path / "number").read_text().strip(), run)
    job.reach(100)
    cluster.run("scancel", "--signal=USR1", job.number)
    facts = job.end()
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", "1"), job.log()
    assert job.status()["world_size"] == 2, "its own CPUs"
    assert reference.has(run), job.log()


def test_srun_with_a_rank_that_does_not_start(cluster: Cluster, reference: Reference, tmp_path: Path) -> None:
    """A mistake is one line for each host, not one for each task."""
    wait(lambda: cluster.is_state("idle", "node1", "node2"), "idle nodes")
    mistake = trained(reference, tmp_path, "r") + " optim.lrr=1"
    with pytest.raises(AssertionError):
        batch(cluster, tmp_path / "log", "-N2", "-n4", "--ntasks-per-node=2", f"--wrap=srun {mistake}")
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines.count("error: optim.lrr=1: unknown key; did you mean optim.lr?") == 2, lines
