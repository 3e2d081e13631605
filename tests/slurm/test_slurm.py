"""launch/slurm.sbatch on a real cluster of two nodes: `make test-slurm`."""

import json
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest

from src import config
from src.drill.__main__ import curve
from src.run.layout import read_status
from tests.helpers.hosts import MARK, find, wait
from tests.helpers.ranks import ROOT, good_job
from tests.helpers.wandb_runs import expected, identity, offline, received
from tests.slurm.cluster import COMMON, Cluster, Reference, Sbatch, SlurmJob

KINDS = ("start", "stop", "resume", "finish")
ARRAY = {"a": "1", "b": "2"}  # its runs, and their tasks


def done(job: SlurmJob, reference: Reference, restarts: int) -> None:
    """Check that the job ends with the weights and the record of an uninterrupted run."""
    facts = job.end()
    assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("COMPLETED", "0:0", str(restarts)), job.log()
    assert reference.has(job.run), job.log()


@pytest.mark.usefixtures("limited")  # that job waits for its time limit while these four run
def test_two_nodes_of_two_ranks_are_as_one_process(sbatch: Sbatch, mnist: str) -> None:
    recipe = ("data.name=mnist", f"data.root={mnist}", "train.epochs=1")
    job = sbatch(*recipe, options=("-c", "2"))
    one = good_job(1, job.run.parent, *COMMON, *recipe)
    assert job.end()["ExitCode"] == "0:0", job.log()
    single = read_status(one.run)
    assert (job.status()["world_size"], single["world_size"]) == (4, 1)
    assert (job.status()["correct"], job.status()["weights_sha256"]) == (single["correct"], single["weights_sha256"])
    assert curve(job.run) == curve(one.run)


def test_scancel_saves_and_the_same_command_goes_on(sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch()
    job.reach(200)
    job.cluster.run("scancel", job.number)
    assert job.end()["JobState"] == "CANCELLED"
    assert (job.status()["state"], job.status()["reason"]) == ("preempted", "SIGTERM")
    assert job.events("stop")[-1]["step"] == job.status()["step"] >= 200
    again = sbatch()
    done(again, reference, 0)
    assert [event["step"] for event in again.events("resume")] == [job.events("stop")[-1]["step"]]


def test_scontrol_requeue(sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch()
    job.reach(200)
    job.cluster.run("scontrol", "requeue", job.number)
    done(job, reference, 1)
    assert [event["event"] for event in job.events("stop", "resume")] == ["stop", "resume"]


def test_kill_9_of_a_rank_restarts_in_place(sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch(options=("-c", "2"))
    job.reach(200)
    job.find("-u -m src.train", RANK="3").kill()
    done(job, reference, 0)


def test_a_time_limit_that_is_too_short(limited: SlurmJob, reference: Reference) -> None:
    job = limited
    facts = job.end()
    assert (facts["JobState"], facts["ExitCode"]) == ("COMPLETED", "0:0"), job.log()
    assert reference.has(job.run)
    moments = job.events(*KINDS)
    again = int(facts["Restarts"]) - 1  # if the next attempt was warned too
    assert [event["event"] for event in moments] == ["start", "stop", *["resume", "stop"] * again, "resume", "finish"]
    assert again >= 0
    assert moments[1]["reason"] == "SIGUSR1"
    assert all(then["step"] == now["step"] for then, now in zip(moments[1::2], moments[2::2], strict=False))
    assert {event["job"] for event in moments} == {job.number}
    assert job.log().count("requeues itself") == again + 1
    pieces = {piece.name for piece in (job.run / "wandb").glob("offline-run-*/run-*.wandb")}
    assert pieces == {f"run-{identity(job.run)}.wandb"}
    assert received(offline(job.run)) == expected(job.run)


def test_a_job_that_is_preempted_comes_back(sbatch: Sbatch, reference: Reference, tmp_path: Path) -> None:
    job = sbatch()
    job.reach(200)
    words = ("-p", "urgent", "-N", "2", "-c", "4", f"--output={tmp_path / 'urgent.out'}", "--wrap=srun sleep 1")
    urgent = SlurmJob(job.cluster, job.cluster.run("sbatch", "--parsable", *words).strip(), tmp_path / "urgent")
    assert urgent.end()["JobState"] == "COMPLETED"
    done(job, reference, 1)
    (stop,) = job.events("stop")
    assert stop["reason"] == "SIGTERM"
    assert job.events("resume")[0]["step"] == stop["step"]


@pytest.mark.parametrize("node", ["0", "1"])
def test_kill_9_of_torchrun_goes_through_the_queue(node: str, sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch()
    job.reach(200)
    job.find("launch.torchrun", SLURM_NODEID=node).kill()
    done(job, reference, 1)


def test_a_job_that_always_fails_is_not_requeued(sbatch: Sbatch, tmp_path: Path) -> None:
    job = sbatch(f"data.root={tmp_path / 'nothing'}")
    facts = job.end()
    assert (facts["JobState"], facts["Restarts"], facts["ExitCode"]) == ("FAILED", "0", "1:0"), job.log()
    assert "error: data.name=idx: put your files into" in job.log()


def test_the_number_of_requeues_is_bounded(sbatch: Sbatch) -> None:
    job = sbatch("train.epochs=1000", MAX_REQUEUES="1")
    for goal in (40, 400):
        job.reach(goal)
        job.cluster.run("scancel", "--signal=USR1", job.number)
        wait(lambda: job.status()["state"] == "preempted", "a save")
    facts = job.end()
    assert (facts["JobState"], facts["Restarts"], facts["ExitCode"]) == ("FAILED", "1", "75:0"), job.log()
    assert "is not requeued again (MAX_REQUEUES=1)" in job.log()


def test_two_jobs_on_one_node_are_separate(sbatch: Sbatch, reference: Reference) -> None:
    options = ("-N", "1", "-w", "node1", "-c", "2")
    jobs = [sbatch(name=name, options=options) for name in ("first", "second")]
    ranks = [job.find("-u -m src.train", RANK=rank) for job in jobs for rank in ("0", "1")]
    for rank in ranks:  # so that none ends before all have started
        rank.hold()
    alive = {process.pid for job in jobs for process in job.processes()}
    assert {rank.pid for rank in ranks} <= alive
    for rank in ranks:
        rank.release()
    for job in jobs:
        done(job, reference, 0)


def submit(cluster: Cluster, mark: Path, *words: str) -> str:
    return cluster.run(str(ROOT / ".venv/bin/python"), "-m", "launch.submit", *words, **{MARK: str(mark)})


def test_submit_a_job(cluster: Cluster, reference: Reference, tmp_path: Path) -> None:
    """Also with a folder and a setting that need quoting in every way."""
    run = tmp_path / 'it\'s a "run", 100%j' / "r"
    settings = (*COMMON, f"data.root={reference.data}", f"run.root={run.parent}", "run.name=r", "track.wandb=disabled")
    words = ("--nodes=2", "--ranks-per-node=2", "--time=5", "--partition=main", "track.notes=two words, [a=b] # 'c'")
    printed = submit(cluster, run, *words, *settings)
    job = SlurmJob(cluster, printed.split()[1].rstrip(","), run)
    assert f"watch    squeue -j {job.number}; tail -F {shlex.quote(f'{run}/launch')}/slurm-{job.number}.out" in printed
    assert f"stop     scancel {job.number} " in printed
    done(job, reference, 0)
    assert job.status()["world_size"] == 4
    kept = {file.name for file in (run / "launch").iterdir()}
    assert kept == {"code.txt", "config.yaml", "job.sbatch", f"slurm-{job.number}.out"}
    assert config.load(run / "config.yaml").track.notes == "two words, [a=b] # 'c'"


def test_submit_an_array(cluster: Cluster, reference: Reference, tmp_path: Path) -> None:
    """A task's requeue leaves the other alone, although its number may be the whole array's."""
    file = tmp_path / "settings.txt"
    file.write_text("# it's twice\n\noptim.lr=0.02 run.name=a track.notes='# one'\noptim.lr=0.04 run.name=b # two\n")
    settings = (*COMMON, f"data.root={reference.data}", f"run.root={tmp_path}", "track.wandb=disabled")
    printed = submit(cluster, tmp_path, "--ranks-per-node=1", "--time=5", f"--array={file}", *settings)
    number = printed.split()[1].rstrip(",")
    assert f"job      {number}, 2 tasks" in printed
    ranks = {run: find(str(tmp_path), "-u -m src.train", SLURM_ARRAY_TASK_ID=task) for run, task in ARRAY.items()}
    for rank in ranks.values():
        rank.hold()
    (first,) = (run for run, rank in ranks.items() if rank.environment["SLURM_JOB_ID"] == number)
    cluster.run("scancel", "--signal=USR1", f"{number}_{ARRAY[first]}")
    ranks[first].release_at(signal.SIGUSR1)
    runs = {run: SlurmJob(cluster, number, tmp_path / run) for run in ARRAY}
    wait(lambda: runs[first].events("resume"), "the task that requeues itself")
    for rank in ranks.values():
        rank.release()
    wait(lambda: not cluster.run("squeue", "-h", "-j", number).strip(), "the end of the array")
    kinds = {run: [event["event"] for event in job.events(*KINDS)] for run, job in runs.items()}
    assert kinds.pop(first) == ["start", "stop", "resume", "finish"]
    assert list(kinds.values()) == [["start", "finish"]]
    assert [config.load(tmp_path / run / "config.yaml").optim.lr for run in ARRAY] == [0.02, 0.04]
    (kept,) = tmp_path.glob("array-*")
    restarted = {run for run, task in ARRAY.items() if "REQUEUE" in (kept / f"slurm-{number}_{task}.out").read_text()}
    assert restarted == {first}
    files = {f"slurm-{number}_1.out", f"slurm-{number}_2.out", "code.txt", "job.sbatch", "settings.txt"}
    assert {path.name for path in kept.iterdir()} == files


def test_a_mistake_does_not_reach_the_queue(cluster: Cluster, sbatch: Sbatch) -> None:
    before = sbatch(options=("--hold",))
    with pytest.raises(AssertionError, match="did you mean optim"):
        submit(cluster, before.run, "optim.lrr=3")
    assert cluster.run("squeue", "-h", "-o", "%i").split() == [before.number]


def test_the_doctor_asks_the_job_s_other_host(cluster: Cluster, tmp_path: Path) -> None:
    checks = ("host name", "interface", "port", "hosts", "all-reduce")
    words = [sys.executable, "-m", "src.doctor", f"run.root={tmp_path}", "--json", "--seconds=110", "--only", *checks]
    log = tmp_path / "log"
    cluster.idle()
    cluster.run("sbatch", "-W", "-N2", "-c2", "-D", str(ROOT), "-o", str(log), f"--wrap={shlex.join(words)}")
    found = {line["check"]: line for line in map(json.loads, log.read_text().splitlines())}
    assert "red" not in {line["state"] for line in found.values()}, log.read_text()
    assert "1 asked by srun: all reach 10.77.0.1" in found["hosts"]["message"]
    assert found["interface"]["message"].startswith("gloo uses eth0 (10.77.0.1")
    assert found["all-reduce"]["message"].endswith("DDP, gloo")


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_a_node_dies_and_comes_back(node: str, sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch("train.timeout_seconds=20")
    job.reach(200)
    job.cluster.script("kill", node)
    wait(lambda: job.cluster.is_state("down", node), "a node that is down")
    job.cluster.script("start", node)
    done(job, reference, 1)


def test_a_node_loses_its_network(sbatch: Sbatch, reference: Reference) -> None:
    """The node goes down; once it is back in service, the requeued job finishes."""
    job = sbatch("train.timeout_seconds=20")
    job.reach(200)
    job.cluster.script("link", "node2", "down")
    wait(lambda: job.cluster.is_state("down", "node2"), "a node that is down")
    job.cluster.script("link", "node2", "up")
    job.cluster.run("scontrol", "update", "nodename=node2", "state=resume")
    done(job, reference, 1)


def test_a_node_loses_its_network_for_a_moment(sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch()
    job.reach(200)
    job.cluster.script("link", "node2", "down")
    time.sleep(3)  # less than any timeout
    job.cluster.script("link", "node2", "up")
    done(job, reference, 0)
