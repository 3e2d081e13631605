"""The Dockerfile: linted everywhere; built and run with buildah as root: `make test-container`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.run import jsonl
from src.run.run import read_status
from tests.helpers.processes import family
from tests.helpers.ranks import ROOT, good_job

SCRIPT = ROOT / "tests" / "helpers" / "container.sh"
USER = "12345:0"  # in no /etc/passwd, and in the group root, as OpenShift has it
SETTINGS = ("train.sync=bitwise", "track.wandb=offline", "log.every=20")
PATIENCE_SECONDS = 240  # longer than anything here takes: then it has hung


def test_lint() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not hadolint:
        pytest.skip("no hadolint")
    command = [hadolint, "--failure-threshold=style", "Dockerfile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_source_change_does_not_reinstall_the_dependencies() -> None:
    steps = re.findall(r"^(?:FROM|RUN|COPY|ADD|ARG|USER) .*", (ROOT / "Dockerfile").read_text(), re.M)
    install = next(at for at, step in enumerate(steps) if "target=/root/.cache/uv" in step)
    copied = [step for step in steps[:install] if step.startswith(("COPY", "ADD")) and "--from=" not in step]
    assert copied == ["COPY requirements.lock ./"]
    assert steps[-1].startswith("USER ")
    assert "COMMIT" not in " ".join(steps[:install]), "each commit would install everything again"


def test_the_build_context_is_an_allow_list() -> None:
    named = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert named[0] == "*"
    assert {line[1:] for line in named if line.startswith("!")} == {"configs", "launch", "requirements.lock", "src"}


def objection() -> str:
    """Why no image can be built here, "" if one can."""
    if os.environ.get("CONTAINER_TESTS") != "1":
        return "minutes, and 12 GB: run `make test-container`"
    if os.geteuid():
        return "buildah's chroot isolation and the name spaces need root"
    missing = [name for name in ("buildah", "mmdebstrap") if not shutil.which(name)]
    return f"not installed: {' '.join(missing)} (tests/helpers/container.sh install)" if missing else ""


class Container:
    """The image's file system, and how a runtime would start it."""

    def __init__(self) -> None:
        image = json.loads(self.script("build"))["OCIv1"]
        self.config: dict[str, Any] = image["config"]
        self.layers: list[str] = image["rootfs"]["diff_ids"]
        self.root = Path(self.script("mount").strip())

    def script(self, *words: str) -> str:
        """Run container.sh; its output."""
        done = subprocess.run([str(SCRIPT), *words], capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def start(self, data: Path, runs: Path, *arguments: str) -> "subprocess.Popen[str]":
        """As `docker run --read-only --tmpfs=/tmp --user=USER -v data:/job/data:ro -v runs:/job/runs` would."""
        runs.mkdir(exist_ok=True)
        os.chown(runs, 12345, 0)
        data.chmod(0o755)
        command = ["env", "-i", *self.config["Env"], *self.config["Entrypoint"], *arguments]
        return subprocess.Popen(
            [str(SCRIPT), "run", str(self.root), USER, str(data), str(runs), *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture(scope="session")
def container() -> Iterator[Container]:
    if reason := objection():
        pytest.skip(reason)
    made = Container()
    yield made
    made.script("remove")


def test_the_configuration(container: Container) -> None:
    config = container.config
    assert (config["Entrypoint"], config["WorkingDir"]) == (["launch/local.sh"], "/job")
    assert set(config["Volumes"]) == {"/job/data", "/job/runs"}
    assert config["User"] == "65532:65532"
    files = {str(file.relative_to(container.root / "job")) for file in (container.root / "job").iterdir()}
    assert files == {"configs", "data", "launch", "requirements.lock", "runs", "src"}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert config["Labels"]["org.opencontainers.image.revision"].removesuffix("-dirty") == commit


def test_the_container_s_job_is_the_host_s(container: Container, mnist: str, tmp_path: Path) -> None:
    """Not root, in no /etc/passwd, on a read-only file system, with read-only data: the same hash."""
    job = container.start(Path(mnist), tmp_path / "runs", "2", *SETTINGS, "run.name=a", "train.epochs=1")
    output, _ = job.communicate(timeout=PATIENCE_SECONDS)
    assert job.returncode == 0, output
    assert "world    2 ranks" in output
    assert "warning" not in output
    host = good_job(1, tmp_path, *SETTINGS, f"data.root={mnist}", "train.epochs=1")
    inside = read_status(tmp_path / "runs" / "a")
    assert (inside["correct"], inside["weights_sha256"]) == (
        read_status(host.run)["correct"],
        read_status(host.run)["weights_sha256"],
    )
    assert (tmp_path / "runs" / "a" / "status.json").stat().st_uid == 12345
    facts = json.loads((tmp_path / "runs" / "a" / "provenance.json").read_text())
    assert facts["git"] == json.loads((host.run / "provenance.json").read_text())["git"]


def test_docker_stop_saves_in_time(container: Container, mnist: str, tmp_path: Path) -> None:
    """SIGTERM to process 1 and to nobody else, which docker follows with SIGKILL; then the same command goes on."""
    settings = ("2", *SETTINGS, "run.name=a", "train.epochs=500")
    run = tmp_path / "runs" / "a"
    job = container.start(Path(mnist), tmp_path / "runs", *settings)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while max((line["step"] for line in jsonl.read(run / "metrics.jsonl")), default=0) < 40:
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    first = family(job.pid)[1]
    assert re.search(r"^NSpid:\s.*\s1$", Path(f"/proc/{first}/status").read_text(), re.M)
    os.kill(first, signal.SIGTERM)
    output, _ = job.communicate(timeout=PATIENCE_SECONDS)
    assert job.returncode == 128 + signal.SIGTERM, output
    assert (read_status(run)["state"], read_status(run)["reason"]) == ("preempted", "SIGTERM")
    assert "Traceback" not in output
    assert list((run / "checkpoints").glob(f"step-{read_status(run)['step']:08d}.pt"))


def test_a_mistake_is_one_line(container: Container, tmp_path: Path) -> None:
    job = container.start(tmp_path, tmp_path / "runs", "2", "optim.lrr=1")
    assert job.communicate(timeout=PATIENCE_SECONDS)[0] == "error: optim.lrr=1: unknown key; did you mean optim.lr?\n"
    assert job.returncode == 2
