"""launch/slurm.sbatch on a real cluster of two nodes: `make test-slurm`."""

import json
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src.drill import curve
from tests.ranks import ROOT, good_job
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import Sbatch

Reference = Callable[[int], str]


def test_two_nodes_of_two_ranks_are_as_one_process(sbatch: Sbatch, reference: Reference, mnist: str) -> None:
    job = sbatch("data.name=mnist", f"data.root={mnist}", "train.epochs=1")
    one = good_job(1, job.run.parent, "train.sync=bitwise", f"data.root={mnist}", "train.epochs=1", "log.every=20")
    assert job.end()["ExitCode"] == "0:0", job.log()
    single = json.loads((one.run / "status.json").read_text())
    assert job.status()["world_size"] == 4
    assert (job.status()["correct"], job.status()["weights_sha256"]) == (single["correct"], single["weights_sha256"])
    assert curve(job.run) == curve(one.run)


def test_a_time_limit_that_is_too_short(sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch("train.epochs=7", options=("-N", "2", "-c", "1", "--time=2"))
    facts = job.end()
    assert facts["JobState"] == "COMPLETED", job.log()
    assert int(facts["Restarts"]) >= 1
    assert job.status()["weights_sha256"] == reference(7)
    told = [event for event in job.events() if event["event"] != "checkpoint"]
    kinds = [event["event"] for event in told]
    assert kinds == ["start", "stop", *["resume", "stop"] * (int(facts["Restarts"]) - 1), "resume", "finish"]
    assert {event["reason"] for event in told if event["event"] == "stop"} <= {"SIGUSR1", "Slurm's time limit"}
    assert all(then["step"] == now["step"] for then, now in zip(told[1::2], told[2::2], strict=False))
    assert {event["job"] for event in told} == {job.number}
    assert "requeues itself" in job.log()


def test_scancel_saves_and_the_same_command_goes_on(sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch("train.epochs=2")
    job.reach(200)
    job.cluster.run("scancel", job.number)
    assert job.end()["JobState"] == "CANCELLED"
    assert (job.status()["state"], job.status()["reason"]) == ("preempted", "SIGTERM")
    assert job.events()[-1]["step"] > 150
    job.cluster.idle()
    again = sbatch("train.epochs=2")
    assert again.end()["JobState"] == "COMPLETED", again.log()
    assert again.status()["weights_sha256"] == reference(2)


def test_scontrol_requeue(sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch("train.epochs=2")
    job.reach(200)
    job.cluster.run("scontrol", "requeue", job.number)
    facts = job.end()
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), job.log()
    assert job.status()["weights_sha256"] == reference(2)
    assert [event["event"] for event in job.events() if event["event"] in ("stop", "resume")] == ["stop", "resume"]


def test_kill_9_of_a_rank_restarts_in_place(sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch("train.epochs=2")
    job.reach(200)
    job.kill(job.find("src.train", RANK="3"))
    facts = job.end()
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "0"), job.log()
    assert job.status()["weights_sha256"] == reference(2)


@pytest.mark.parametrize("node", ["0", "1"])
def test_kill_9_of_torchrun_goes_through_the_queue(node: str, sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch("train.epochs=2")
    job.reach(200)
    job.kill(job.find("launch.torchrun", SLURM_NODEID=node))
    facts = job.end()
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "1"), job.log()
    assert job.status()["weights_sha256"] == reference(2)


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_a_node_dies_and_comes_back(node: str, sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch("train.epochs=2", "train.timeout_seconds=30")
    job.reach(200)
    job.cluster.script("kill-node", node)
    job.cluster.wait(lambda: "down" in job.cluster.run("sinfo", "-h", "-n", node, "-o", "%T"), "a node that is down")
    job.cluster.script("start-node", node)
    facts = job.end()
    assert facts["JobState"] == "COMPLETED", job.log()
    assert job.status()["weights_sha256"] == reference(2)


def test_a_link_is_cut_for_good(sbatch: Sbatch, reference: Reference) -> None:
    """The node goes down; once it is back in service, the requeued job ends as ever."""
    job = sbatch("train.epochs=2", "train.timeout_seconds=30")
    job.reach(200)
    job.cluster.script("link", "node2", "down")
    job.cluster.wait(lambda: "down" in job.cluster.run("sinfo", "-h", "-n", "node2", "-o", "%T"), "a node down")
    job.cluster.script("link", "node2", "up")
    job.cluster.run("scontrol", "update", "nodename=node2", "state=resume")
    facts = job.end()
    assert facts["JobState"] == "COMPLETED", job.log()
    assert job.status()["weights_sha256"] == reference(2)


def test_a_link_flickers(sbatch: Sbatch, reference: Reference) -> None:
    job = sbatch("train.epochs=2")
    job.reach(200)
    job.cluster.script("link", "node2", "down")
    time.sleep(3)  # less than any timeout
    job.cluster.script("link", "node2", "up")
    facts = job.end()
    assert (facts["JobState"], facts["Restarts"]) == ("COMPLETED", "0"), job.log()
    assert job.status()["weights_sha256"] == reference(2)


def test_a_job_that_always_fails_is_not_requeued(sbatch: Sbatch, tmp_path: Path) -> None:
    job = sbatch("data.name=idx", f"data.root={tmp_path / 'nothing'}")
    facts = job.end()
    assert (facts["JobState"], facts["Restarts"], facts["ExitCode"]) == ("FAILED", "0", "1:0"), job.log()
    assert "error: data.name=idx: put your files into" in job.log()


def test_the_number_of_requeues_is_bounded(sbatch: Sbatch) -> None:
    job = sbatch("train.epochs=50", MAX_REQUEUES="1")
    for goal in (40, 400):
        job.reach(goal)
        job.cluster.run("scancel", "--signal=USR1", job.number)
        job.cluster.wait(lambda: job.status()["state"] == "preempted", "a save")
    facts = job.end()
    assert (facts["JobState"], facts["Restarts"], facts["ExitCode"]) == ("FAILED", "1", "75:0"), job.log()
    assert "is not requeued again (MAX_REQUEUES=1)" in job.log()


def test_two_jobs_on_one_node_do_not_meet(sbatch: Sbatch, reference: Reference) -> None:
    options = ("-N", "1", "-w", "node1")
    first = sbatch("train.epochs=1", name="first", options=options)
    second = sbatch("train.epochs=1", name="second", options=options)
    assert {first.end()["JobState"], second.end()["JobState"]} == {"COMPLETED"}
    assert first.facts()["StartTime"] <= second.facts()["StartTime"] < first.facts()["EndTime"]
    assert first.status()["weights_sha256"] == second.status()["weights_sha256"] == reference(1)


def test_submit_an_array(cluster: Cluster, reference: Reference, tmp_path: Path) -> None:
    reference(1)
    cluster.idle()
    (tmp_path / "settings.txt").write_text("optim.lr=0.02 run.name=a\n\n# twice as fast\noptim.lr=0.04 run.name=b\n")
    root = tmp_path.parent / "digits"
    words = [str(ROOT / ".venv/bin/python"), "-m", "launch.submit", "--ranks-per-node=1", "--time=5"]
    words += [f"--array={tmp_path / 'settings.txt'}", "data.name=digits", f"data.root={root}", "train.epochs=1"]
    printed = cluster.run(*words, "track.wandb=disabled", f"run.root={tmp_path}")
    number = printed.split()[1].rstrip(",")
    assert f"squeue -j {number}" in printed
    done = {name: tmp_path / name / "status.json" for name in "ab"}
    cluster.wait(lambda: not cluster.run("squeue", "-h", "-j", number).strip(), "the end of the array")
    assert all(json.loads(file.read_text())["state"] == "finished" for file in done.values())


def test_a_mistake_does_not_reach_the_queue(cluster: Cluster) -> None:
    words = [str(ROOT / ".venv/bin/python"), "-m", "launch.submit", "optim.lrr=3"]
    with pytest.raises(AssertionError, match="did you mean optim"):
        cluster.run(*words)
    assert not cluster.run("squeue", "-h").strip()


def test_the_doctor_asks_the_job_s_other_host(cluster: Cluster, tmp_path: Path) -> None:
    checks = ("host name", "interface", "port", "hosts", "all-reduce")
    words = [sys.executable, "-m", "src.doctor", f"run.root={tmp_path}", "--json", "--seconds=110", "--only", *checks]
    log = tmp_path / "log"
    cluster.idle()
    cluster.run("sbatch", "-W", "-N2", "-c2", "-D", str(ROOT), "-o", str(log), f"--wrap={shlex.join(words)}")
    found = {line["check"]: line for line in map(json.loads, log.read_text().splitlines())}
    assert "red" not in {line["state"] for line in found.values()}, log.read_text()
    assert "1 asked by srun: all reach 10.77.0.1" in found["hosts"]["found"]
    assert found["interface"]["found"].startswith("gloo takes eth0 (10.77.0.1")
    assert found["all-reduce"]["found"].endswith("DDP, gloo")
