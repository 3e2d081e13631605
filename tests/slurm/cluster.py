"""A Slurm cluster for tests (cluster.sh), and the jobs on it seen from outside its namespaces."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src import lines
from tests.ranks import ROOT

SCRIPT = Path(__file__).with_name("cluster.sh")
PATIENCE_SECONDS = 240  # nothing here takes so long; what does has hung


@dataclass
class Process:
    """A process of a job, wherever it runs."""

    pid: int
    command: str
    environment: dict[str, str]


class Cluster:
    """Two nodes of four CPUs each."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def script(self, *words: str) -> str:
        """Run cluster.sh; its output."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        done = subprocess.run(
            [str(SCRIPT), *words],
            env=environment | {"BASE": str(self.base)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def run(self, *command: str, **variables: str) -> str:
        """Run a command where sbatch and squeue work."""
        return self.script("exec", "env", *(f"{name}={value}" for name, value in variables.items()), *command)

    def idle(self) -> None:
        """Wait until every node is free, and nobody's ports are in the way."""
        self.wait(lambda: self.run("sinfo", "-h", "-N", "-o", "%t").split() == ["idle"] * 2, "idle nodes")

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait for it; fails if it does not come."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            time.sleep(0.2)


class SlurmJob:
    """A job of the cluster, and its run."""

    def __init__(self, cluster: Cluster, number: str, run: Path) -> None:
        self.cluster, self.number, self.run = cluster, number, run

    def facts(self) -> dict[str, str]:
        """What `scontrol show job` says."""
        words = self.cluster.run("scontrol", "-o", "show", "job", self.number)
        return dict(re.findall(r"(\w+)=(\S+)", words))

    def end(self) -> dict[str, str]:
        """Wait until the job is over and its last process gone; what Slurm says of it."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        self.cluster.wait(lambda: self.facts()["JobState"] in over, f"the end of job {self.number}\n{self.log()}")
        self.gone()
        return self.facts()

    def gone(self) -> None:
        """Wait for the end of its last process."""
        self.cluster.wait(lambda: not self.processes(), f"the end of job {self.number}'s processes")

    def processes(self) -> list[Process]:
        """Every live process of the job, on whatever node."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
                command = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:
                continue
            environment = dict(word.partition("=")[::2] for word in words)
            # Jobs of other clusters on this machine have the same numbers.
            if environment.get("SLURM_JOB_ID") == self.number and environment.get("RUN_OF_TEST") == str(self.run):
                found.append(Process(int(entry.name), command, environment))
        return found

    def find(self, command: str, **environment: str) -> Process:
        """The one process with this in its command line and its environment."""
        found: list[Process] = []

        def look() -> bool:
            found[:] = [
                process
                for process in self.processes()
                if command in process.command and environment.items() <= process.environment.items()
            ]
            return bool(found)

        self.cluster.wait(look, f"{command} {environment}")
        return found[0]

    def kill(self, process: Process) -> None:
        """kill -9."""
        os.kill(process.pid, signal.SIGKILL)

    def reach(self, step: int) -> None:
        """Wait until the run has recorded this step."""
        self.cluster.wait(lambda: self.step() >= step, f"step {step}\n{self.log()}")

    def step(self) -> int:
        """The newest step in metrics.jsonl."""
        return max((line["step"] for line in lines.read(self.run / "metrics.jsonl")), default=0)

    def status(self) -> dict[str, Any]:
        """status.json."""
        content: dict[str, Any] = json.loads((self.run / "status.json").read_text())
        return content

    def events(self) -> list[dict[str, Any]]:
        """events.jsonl."""
        return list(lines.read(self.run / "events.jsonl"))

    def log(self) -> str:
        """Everything that the job has printed."""
        files = sorted(self.run.parent.glob(f"{self.run.name}-{self.number}.out"))
        return "".join(file.read_text(errors="replace") for file in files)
