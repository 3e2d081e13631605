"""A Slurm cluster for tests (cluster.sh), and the jobs on it seen from outside its namespaces."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.drill.__main__ import curve
from src.run import jsonl
from src.run.layout import read_status
from tests.helpers import hosts
from tests.helpers.hosts import Hosts, Process, wait

EPOCHS = 15  # of 100 steps: a test must find the job before its end, and wait for it
COMMON = (
    "data.name=idx",
    "train.sync=bitwise",
    "train.device=cpu",
    f"train.epochs={EPOCHS}",
    "checkpoint.every_steps=100",
    "log.every=20",
    "log.seconds=0",
)
OVER = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED")


class Cluster(Hosts):
    """Two nodes of four CPUs each, in the partitions main and urgent, whose jobs preempt main's."""

    def __init__(self, base: Path) -> None:
        super().__init__(base, Path(__file__).with_name("cluster.sh"))

    def run(self, *command: str, **variables: str) -> str:
        """Run a command where sbatch and squeue work."""
        return self.script("exec", "env", *(f"{name}={value}" for name, value in variables.items()), *command)

    def is_state(self, state: str, *nodes: str) -> bool:
        """Whether all these nodes are idle, down, ..."""
        states = self.run("sinfo", "-h", "-N", "-p", "main", "-n", ",".join(nodes), "-o", "%T").split()
        return len(states) == len(nodes) and all(state in word for word in states)

    def idle(self) -> None:
        """Wait until both nodes are free."""
        wait(lambda: self.is_state("idle", "node1", "node2"), "idle nodes")


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
        wait(lambda: self.facts()["JobState"] in OVER, lambda: f"the end of job {self.number}\n{self.log()}")
        self.gone()
        return self.facts()

    def gone(self) -> None:
        """Wait for the end of its last process."""
        wait(lambda: not self.processes(), lambda: f"the end of {self.processes()}")

    def processes(self) -> list[Process]:
        """Every live process of the job, on whatever node."""
        mine = hosts.processes(str(self.run))
        return [process for process in mine if process.environment.get("SLURM_JOB_ID") == self.number]

    def find(self, command: str, **environment: str) -> Process:
        """Wait for the one process with this in its command line and its environment."""
        return hosts.find(str(self.run), command, SLURM_JOB_ID=self.number, **environment)

    def reach(self, step: int) -> None:
        """Wait until the run has recorded this step."""
        wait(lambda: self.step() >= step, lambda: f"step {step}\n{self.log()}")

    def step(self) -> int:
        """The newest step in metrics.jsonl."""
        return max((line["step"] for line in jsonl.read(self.run / "metrics.jsonl")), default=0)

    def status(self) -> dict[str, Any]:
        """status.json."""
        content: dict[str, Any] = read_status(self.run)
        return content

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """The events of these kinds."""
        return [event for event in jsonl.read(self.run / "events.jsonl") if event["event"] in kinds]

    def log(self) -> str:
        """Everything that the job has printed."""
        files = sorted(self.run.parent.glob(f"{self.run.name}-{self.number}.out"))
        return "".join(file.read_text(errors="replace") for file in files)


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run in one process: the data root, the hash of its weights, the lines of metrics.jsonl."""

    data: str
    digest: str
    curve: list[str]

    def has(self, run: Path) -> bool:
        """Whether another run has come to the same weights, with each line once."""
        return (read_status(run).get("weights_sha256"), curve(run)) == (self.digest, self.curve)


Sbatch = Callable[..., SlurmJob]
