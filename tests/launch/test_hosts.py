"""launch/node.sh on several hosts without Slurm, which leave and rejoin: `make test-slurm` runs this too."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.drill.__main__ import curve
from src.run import jsonl
from src.run.run import read_status
from tests.helpers import hosts
from tests.helpers.data_sets import write_data_set
from tests.helpers.hosts import MARK, Hosts, Process, find, wait
from tests.helpers.ranks import good_job

SETTINGS = (
    "data.name=idx",
    "train.sync=bitwise",
    "train.device=cpu",
    "train.epochs=15",
    "train.timeout_seconds=20",
    "checkpoint.every_steps=100",
    "log.every=20",
    "log.seconds=0",
    "run.name=r",
    "track.wandb=disabled",
)


class ElasticJob:
    """A job of two or three hosts, one rank on each; node1 is where they meet."""

    def __init__(self, made: Hosts, folder: Path) -> None:
        self.hosts, self.folder, self.run = made, folder, folder / "runs" / "r"
        self.launched: dict[str, subprocess.Popen[bytes]] = {}
        write_data_set(folder / "IDX" / "raw", 6400, 200)

    def start(self, *names: str, nodes: str = "2:3") -> None:
        """Run the README's command on these hosts."""
        command = ["launch/node.sh", *SETTINGS, f"data.root={self.folder}", f"run.root={self.run.parent}"]
        for name in names:
            variables = {"HEAD": "node1:29500", "NODES": nodes, "NODE_RANK": str(int(name[4:]) - 1), "JOB": "elastic"}
            variables |= {"RANKS_PER_NODE": "1", "RDZV_CONF": "last_call_timeout=5", "MAX_RESTARTS": "10"}
            self.launched[name] = self.hosts.start(
                name, command, self.folder / f"{name}.log", **variables, **{MARK: self.mark(name)}
            )

    def log(self) -> str:
        """What all hosts have printed."""
        return "".join(file.read_text() for file in sorted(self.folder.glob("node?.log")))

    def worlds(self) -> list[int]:
        """How many ranks there were, each time anew."""
        events = [event for event in jsonl.read(self.run / "events.jsonl") if event["event"] in ("start", "resume")]
        sizes = [event["world_size"] for event in events]
        return [size for at, size in enumerate(sizes) if at == 0 or size != sizes[at - 1]]

    def becomes(self, *worlds: int) -> None:
        """Wait until the ranks have met so often, each time in a world of this size."""
        wait(lambda: self.worlds() == list(worlds), lambda: f"{worlds}, not {self.worlds()}\n{self.log()}")

    def reach(self, step: int) -> None:
        """Wait until the run has recorded this step."""

        def recorded() -> bool:
            return any(line["step"] >= step for line in jsonl.read(self.run / "metrics.jsonl"))

        wait(recorded, lambda: f"step {step}\n{self.log()}")

    def end(self) -> dict[str, int]:
        """Wait until every host's command has ended, and no process is left; the exit codes."""
        codes = {name: command.wait(timeout=hosts.PATIENCE_SECONDS) for name, command in self.launched.items()}
        wait(lambda: not self.left(), lambda: f"the end of {self.left()}")
        return codes

    def left(self) -> list[Process]:
        """The job's processes."""
        return [process for name in self.launched for process in hosts.processes(self.mark(name))]

    def mark(self, name: str) -> str:
        """What marks the job's processes on a host."""
        return str(self.folder / name)

    def hold(self, name: str) -> Process:
        """Stop the rank on this host, or the run would end before the next step of the test."""
        held = find(self.mark(name), "-u -m src.train")
        held.hold()
        return held

    def is_as_if_nothing_had_happened(self) -> bool:
        """Whether weights and record are those of one process that nobody disturbed."""
        one = good_job(1, self.folder / "one", *SETTINGS, f"data.root={self.folder}").run
        digest = read_status(one)["weights_sha256"]
        return (read_status(self.run).get("weights_sha256"), curve(self.run)) == (digest, curve(one))


@pytest.fixture
def job(tmp_path: Path) -> Iterator[ElasticJob]:
    if os.environ.get("SLURM_TESTS") != "1":
        pytest.skip("minutes on three hosts in namespaces: run `make test-slurm`")
    if reason := hosts.objection():
        pytest.skip(reason)
    made = Hosts(tmp_path / "hosts")
    yield ElasticJob(made, tmp_path)
    made.down()


def test_hosts_that_leave_and_rejoin(job: ElasticJob) -> None:
    """One host dies and restarts, then loses its network and gets it back; the others train on meanwhile."""
    job.start("node1", "node2", "node3")
    job.reach(200)
    job.hosts.script("kill", "node3")
    job.becomes(3, 2)
    held = job.hold("node2")
    job.hosts.script("start", "node3")
    job.start("node3")
    held.release_at(signal.SIGTERM)
    job.becomes(3, 2, 3)
    job.hosts.script("link", "node3", "down")
    job.becomes(3, 2, 3, 2)
    held = job.hold("node2")
    job.hosts.script("link", "node3", "up")
    if job.launched["node3"].poll() is not None:  # cut off for a minute, torchrun gives up
        job.start("node3")
    held.release_at(signal.SIGTERM)
    assert job.end() == {"node1": 0, "node2": 0, "node3": 0}, job.log()
    assert job.worlds() == [3, 2, 3, 2, 3]
    assert job.is_as_if_nothing_had_happened(), job.log()


def test_the_rendezvous_host_dies(job: ElasticJob) -> None:
    """The other hosts end with an error that names the fix; the same command then resumes."""
    job.start("node1", "node2", "node3", nodes="3:3")
    job.reach(200)
    job.hosts.script("kill", "node1")
    assert all(job.end().values())
    assert job.log().count("error: the hosts cannot meet at node1:29500") == 2, job.log()
    job.hosts.script("start", "node1")
    job.start("node1", "node2", "node3", nodes="3:3")
    assert job.end() == {"node1": 0, "node2": 0, "node3": 0}, job.log()
    assert job.is_as_if_nothing_had_happened(), job.log()
