"""launch/kubernetes.yaml: valid, of one piece, and its container's command and preStop as they are, in processes.

A pod is here a process group on the loopback interface, in a folder laid out like the image's /job.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from src import interrupts
from src.run import jsonl, layout
from src.run.layout import ExitCode
from src.run.run import read_status
from tests.helpers.processes import family
from tests.helpers.ranks import ROOT, good_job

FILE = ROOT / "launch" / "kubernetes.yaml"
SERVICE, CLAIM, JOB = yaml.safe_load_all(FILE.read_text())
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
NAME = JOB["metadata"]["name"]
INDEX_LABEL, NAME_LABEL = "batch.kubernetes.io/job-completion-index", "batch.kubernetes.io/job-name"
SETTINGS = ("data.name=idx", "train.sync=bitwise", "track.wandb=disabled", "log.every=5", "checkpoint.every_epochs=10")
PATIENCE_SECONDS = 240  # longer than anything here takes: then it has hung


@pytest.mark.parametrize("version", ["1.29", "1.32", "1.37"])
@pytest.mark.parametrize("gpus", [False, True])
def test_the_api_accepts_it(version: str, gpus: bool, tmp_path: Path) -> None:
    text = FILE.read_text()
    if gpus:
        text, found = re.subn(r"# (nvidia\.com/gpu: \d+)", r"\1", text)
        assert found == 1
    (tmp_path / "job.yaml").write_text(text)
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, str(tmp_path / "job.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed for resource ") == 3, "a kind that is not known passes unseen"


def environment(address: str = "127.0.0.1", cpus: str = "") -> dict[str, str]:
    """The container's variables, as the kubelet makes them in this order; $(NAME) is one that came before."""
    fields = {f"metadata.labels['{NAME_LABEL}']": NAME, "status.podIP": address}
    made: dict[str, str] = {}
    for entry in CONTAINER["env"]:
        source = entry.get("valueFrom", {})
        if "fieldRef" in source:
            made[entry["name"]] = fields[source["fieldRef"]["fieldPath"]]
        elif "resourceFieldRef" in source:
            kind, resource = source["resourceFieldRef"]["resource"].split(".")
            made[entry["name"]] = cpus or CONTAINER["resources"][kind][resource]
        elif "secretKeyRef" in source:
            assert source["secretKeyRef"]["optional"]
        else:
            made[entry["name"]] = expand(entry["value"], made)
    return made


def expand(text: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda found: variables.get(found[1], found[0]), text)


def test_the_pods_names_and_the_service_agree() -> None:
    made = environment()
    assert made["HEAD"] == f"{NAME}-0.{POD['subdomain']}:{SERVICE['spec']['ports'][0]['port']}"
    assert SERVICE["metadata"]["name"] == POD["subdomain"]
    assert SERVICE["spec"]["selector"] == {NAME_LABEL: NAME}
    assert (SERVICE["spec"]["clusterIP"], SERVICE["spec"]["publishNotReadyAddresses"]) == ("None", True)
    spec = JOB["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", int(made["NODES"]), 2)
    assert made["RANKS_PER_NODE"] == CONTAINER["resources"]["limits"]["cpu"] == "4"
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?", NAME), "a host name with the index behind it"


def test_the_mounts_match_the_image() -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    dockerfile = (ROOT / "Dockerfile").read_text()
    workdir, places, user = (
        re.findall(rf"^{name} (.+)", dockerfile, re.M)[-1] for name in ("WORKDIR", "VOLUME", "USER")
    )
    assert set(json.loads(places)) == {f"{workdir}/data", f"{workdir}/runs"} == set(mounts) - {"/tmp", "/dev/shm"}
    assert set(volumes) == set(mounts.values())
    assert volumes[mounts[f"{workdir}/runs"]]["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteMany"], "all pods read status.json"
    assert f"{POD['securityContext']['runAsUser']}:{POD['securityContext']['runAsGroup']}" == user
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"]


def test_the_grace_period_is_long_enough_for_a_save() -> None:
    hook = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    pause = int(re.findall(r"sleep (\d+)", hook[-1])[0])
    torchrun_kills_seconds = 30
    assert pause > interrupts.STUCK_SECONDS + interrupts.LOOK_SECONDS
    assert POD["terminationGracePeriodSeconds"] >= pause + torchrun_kills_seconds


def action(code: int, disrupted: bool = False) -> str:
    """What the Job's controller does about a pod that ended with this code."""
    if code == 0:
        return "Complete"
    for rule in JOB["spec"]["podFailurePolicy"]["rules"]:
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions", [])
        if (codes and codes["operator"] == "In" and code in codes["values"]) or (
            disrupted and {"type": "DisruptionTarget", "status": "True"} in conditions
        ):
            return str(rule["action"])
    return "Count"


def test_the_failure_policy_matches_the_exit_codes() -> None:
    assert POD["restartPolicy"] == "Never"  # else the policy does not count, and torchrun meets its own dead agent
    assert (environment()["BY_STATUS"], JOB["spec"]["podReplacementPolicy"]) == ("1", "Failed")
    answers = {code: action(code) for code in (ExitCode.FINISHED, ExitCode.FAILED, ExitCode.MISTAKE, 137)}
    assert answers == {0: "Complete", 1: "Count", 2: "FailJob", 137: "Count"}
    assert (action(ExitCode.STOPPED), action(ExitCode.TRY_AGAIN)) == ("FailJob", "Ignore")
    assert (action(137, disrupted=True), action(ExitCode.STOPPED, disrupted=True)) == ("Ignore", "FailJob")


class Cluster:
    """The folder that the pods share, and the pods."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.job = folder / "job"
        for name in ("launch", "src"):
            shutil.copytree(ROOT / name, self.job / name, ignore=shutil.ignore_patterns("__pycache__"))
        (self.job / "runs").mkdir()
        self.run = self.job / "runs" / NAME
        self.settings = settings
        self.pods: list[subprocess.Popen[str]] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.head = f"127.0.0.1:{probe.getsockname()[1]}"

    def variables(self, index: int) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "WANDB_"))}
        image = {"PYTHON": sys.executable, "JOB_COMPLETION_INDEX": str(index)}
        return kept | image | environment(cpus="1") | {"HEAD": self.head}

    def start(self, index: int) -> "subprocess.Popen[str]":
        variables = self.variables(index)
        arguments = [expand(argument, variables) for argument in CONTAINER["args"]]
        pod = subprocess.Popen(
            [*CONTAINER["command"], *arguments, *self.settings],
            cwd=self.job,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.pods.append(pod)
        return pod

    def pre_stop(self, index: int) -> "subprocess.Popen[bytes]":
        command = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
        return subprocess.Popen(command, cwd=self.job, env=self.variables(index))

    def step(self) -> int:
        return max((line["step"] for line in jsonl.read(self.run / "metrics.jsonl")), default=0)

    def reach(self, step: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.step() < step:
            assert time.monotonic() < deadline, "the job does not get there"
            assert all(pod.poll() in (None, -signal.SIGKILL) for pod in self.pods), "a pod has ended"
            time.sleep(0.02)

    def status(self) -> dict[str, Any]:
        return layout.read_status(self.run)


@pytest.fixture
def cluster(small: str, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, *SETTINGS, f"data.root={small}")
    yield made
    for pod in made.pods:
        kill(pod)


def kill(pod: "subprocess.Popen[Any]") -> None:
    """End all its processes at once, as a container ends whose first process is killed."""
    if pod.poll() is None:
        for pid in reversed(family(pod.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    pod.wait()


def end(*pods: "subprocess.Popen[str]") -> list[int]:
    """Wait for the pods; returns their exit codes and prints their output."""
    for pod in pods:
        print(pod.communicate(timeout=PATIENCE_SECONDS)[0])
    return [pod.returncode for pod in pods]


@pytest.mark.slow(seconds=21)
def test_a_drained_pod_resumes_elsewhere(cluster: Cluster, small: str, tmp_path: Path) -> None:
    cluster.settings = (*cluster.settings, "train.epochs=60")
    pods = [cluster.start(0), cluster.start(1)]
    cluster.reach(20)
    hook = cluster.pre_stop(1)
    codes = end(*pods)
    kill(hook)  # as the kubelet does when the container has left
    assert [action(code) for code in codes] == ["Ignore", "Ignore"], codes
    assert (cluster.status()["state"], cluster.status()["reason"]) == ("preempted", "STOP file: restart")
    saved = cluster.status()["step"]

    assert end(cluster.start(0), cluster.start(1)) == [0, 0]
    settings = (*SETTINGS, f"data.root={small}", "train.epochs=60")
    unbroken = read_status(good_job(1, tmp_path / "one", *settings).run)
    assert cluster.status()["weights_sha256"] == unbroken["weights_sha256"]
    events = [(event["event"], event["step"]) for event in jsonl.read(cluster.run / "events.jsonl")]
    assert [event for event in events if event[0] != "checkpoint"] == [
        ("start", 0),
        ("stop", saved),
        ("resume", saved),
        ("finish", 960),
    ]
    alone = cluster.start(1)  # a pod that is restarted after the others have finished must not wait for them
    assert end(alone) == [0]


@pytest.mark.slow(seconds=12)
def test_a_killed_pod_comes_back_and_the_user_s_stop_ends_all(cluster: Cluster) -> None:
    cluster.settings = (*cluster.settings, "train.epochs=100000")
    first, second = cluster.start(0), cluster.start(1)
    cluster.reach(40)
    kill(second)
    known = cluster.step()
    again = cluster.start(1)
    cluster.reach(known + 50)
    assert first.poll() is None, "the pod that was not killed restarts its ranks, not itself"
    assert [event["event"] for event in jsonl.read(cluster.run / "events.jsonl")].count("resume") == 1
    (cluster.run / "STOP").touch()
    codes = end(first, again)
    assert [action(code) for code in codes] == ["FailJob", "FailJob"], codes
    assert cluster.status()["reason"] == "STOP file"


@pytest.mark.slow(seconds=5)
def test_the_death_of_the_first_pod_ends_the_others(cluster: Cluster) -> None:
    cluster.settings = (*cluster.settings, "train.epochs=100000")
    first, second = cluster.start(0), cluster.start(1)
    cluster.reach(40)
    kill(first)
    (code,) = end(second)
    assert action(code) == "Ignore", "it made progress, and comes back beside the new first pod"


def test_a_pod_waiting_for_the_others_honours_sigterm(cluster: Cluster) -> None:
    pod = cluster.start(0)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not handles(pod.pid, signal.SIGTERM):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pod.send_signal(signal.SIGTERM)
    assert end(pod) == [ExitCode.FAILED]


def handles(pid: int, number: int) -> bool:
    """Whether the process handles the signal; process 1 of a container ignores signals that it does not handle."""
    (mask,) = re.findall(r"^SigCgt:\s(\w+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    return bool(int(mask, 16) >> (number - 1) & 1)
