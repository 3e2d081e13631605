"""launch/kubernetes-spot.yaml: valid, and its container as it is, in a process, on disks that go with their pods."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from src import interrupts
from src.run.layout import ExitCode, read_status
from tests.helpers.processes import family
from tests.helpers.ranks import ROOT, good_job

FILE = ROOT / "launch" / "kubernetes-spot.yaml"
(JOB,) = yaml.safe_load_all(FILE.read_text())
SHARED = yaml.safe_load_all((ROOT / "launch" / "kubernetes.yaml").read_text())
POD = JOB["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
NAME = JOB["metadata"]["name"]
PATIENCE_SECONDS = 240


@pytest.mark.parametrize("version", ["1.29", "1.32", "1.37"])
def test_the_api_accepts_it(version: str) -> None:
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "-k", version, str(FILE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed for resource ") == 1, "a kind that is not known passes unseen"


def test_it_is_the_other_manifest_but_for_the_volume_and_the_mirror() -> None:
    other = list(SHARED)[-1]["spec"]
    assert JOB["spec"]["podFailurePolicy"] == other["podFailurePolicy"]
    kept = ("securityContext", "terminationGracePeriodSeconds", "restartPolicy", "automountServiceAccountToken")
    assert {name: POD[name] for name in kept} == {name: other["template"]["spec"][name] for name in kept}
    (container,) = other["template"]["spec"]["containers"]
    same = ("command", "image", "lifecycle", "resources", "securityContext", "volumeMounts")
    assert {name: CONTAINER[name] for name in same} == {name: container[name] for name in same}
    assert {name for volume in POD["volumes"] for name in volume} == {"name", "emptyDir"}, "nothing is shared"
    assert any(argument.startswith("checkpoint.mirror=s3://") for argument in CONTAINER["args"])
    pause = int(re.findall(r"sleep (\d+)", CONTAINER["lifecycle"]["preStop"]["exec"]["command"][-1])[0])
    assert pause > interrupts.STUCK_SECONDS + interrupts.LOOK_SECONDS


def variables() -> dict[str, str]:
    """The container's variables that are no secrets."""
    given = {entry["name"]: entry["value"] for entry in CONTAINER["env"] if "value" in entry}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "WANDB_", "AWS_"))}
    return kept | {"PYTHON": sys.executable, "JOB": NAME, "RANKS_PER_NODE": "2"} | given | {"HEAD": "127.0.0.1:0"}


def pod(folder: Path, *settings: str) -> "subprocess.Popen[str]":
    """A pod on a new, empty disk."""
    for name in ("launch", "src"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "runs").mkdir()
    chosen = [argument.replace("$(JOB)", NAME) for argument in CONTAINER["args"]]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*CONTAINER["command"], *chosen, *settings], cwd=folder, env=variables(), **streams)


def reach(folder: Path, running: "subprocess.Popen[str]", there: Path, step: int) -> None:
    """Wait until the run is saved at that step, and the mirror has something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while read_status(folder / "runs" / NAME).get("step", 0) < step or not there.exists():
        assert time.monotonic() < deadline
        assert running.poll() is None, running.communicate()[0]
        time.sleep(0.02)


@pytest.mark.slow(seconds=30)
def test_pods_that_go_with_their_disks_finish_the_run(small: str, tmp_path: Path) -> None:
    shared = ("data.name=idx", f"data.root={small}", "train.sync=bitwise", "track.wandb=disabled", "train.epochs=60")
    mirrored = (*shared, f"checkpoint.mirror=file://{tmp_path}/mirror")
    there = tmp_path / "mirror" / NAME / "latest.json"

    killed = pod(tmp_path / "1", *mirrored)
    reach(tmp_path / "1", killed, there, 32)
    for pid in reversed(family(killed.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    killed.communicate()

    drained = pod(tmp_path / "2", *mirrored, "log.every=1")
    began = tmp_path / "2" / "runs" / NAME / "metrics.jsonl"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not began.exists():
        assert time.monotonic() < deadline
        assert drained.poll() is None, drained.communicate()[0]
        time.sleep(0.02)
    reach(tmp_path / "2", drained, there, 100)
    hook = subprocess.Popen(CONTAINER["lifecycle"]["preStop"]["exec"]["command"], cwd=tmp_path / "2", env=variables())
    output, _ = drained.communicate(timeout=PATIENCE_SECONDS)
    hook.kill()
    hook.wait()
    assert drained.returncode == ExitCode.TRY_AGAIN, output
    assert ": brought back step " in output

    last = pod(tmp_path / "3", *mirrored)
    output, _ = last.communicate(timeout=PATIENCE_SECONDS)
    assert (last.returncode, ": brought back step " in output) == (0, True), output
    unbroken = read_status(good_job(1, tmp_path / "one", *shared).run)
    assert read_status(tmp_path / "3" / "runs" / NAME)["weights_sha256"] == unbroken["weights_sha256"]

    finished = pod(tmp_path / "4", *mirrored)
    output, _ = finished.communicate(timeout=PATIENCE_SECONDS)
    assert (finished.returncode, "is finished" in output) == (0, True), output
