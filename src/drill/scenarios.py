"""The scenarios of the drill: processes of a test run are killed or stopped, or its files are damaged."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from src.drill.workloads import WORKLOADS
from src.run import jsonl, layout
from src.run.layout import newest_first

RANKS = 4
EXIT_SECONDS = 30  # the last process of a job ends within this time after torchrun


class Drill:
    """A test run in a temporary folder; `seed` and the name decide the random numbers."""

    def __init__(self, folder: Path, name: str, seed: int, model: str = "logistic") -> None:
        self.folder, self.name, self.random = folder, name, random.Random(f"{seed} {name}")
        self._workload = WORKLOADS[model]
        self.path = folder / "runs" / name
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ranks: int = RANKS, *settings: str, module: tuple[str, ...] = (), options: str = "") -> None:
        """Start the job; `module` replaces src.train, `options` are options of torchrun."""
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command += [*options.split(), f"--log-dir={self.folder / 'torchrun'}", "-m", *(module or ("src.train",))]
        command += [*self._workload.settings, f"data.root={self.folder / 'data'}", f"run.root={self.folder / 'runs'}"]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, f"run.name={self.name}", *settings],
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def step(self) -> int:
        """The newest step in metrics.jsonl."""
        return max((line["step"] for line in jsonl.read(self.path / layout.METRICS)), default=0)

    def reach(self, low: int = 200, high: int = 2200) -> None:
        """Wait until a random step of that range, or what stands for it, is trained, or the job has ended."""
        goal = self.random.randint(low, high) * self._workload.share
        while self.step() < goal and self.process is not None and self.process.poll() is None:
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """The pids of the ranks: the children of torchrun."""
        assert self.process is not None
        return _children(self.process.pid)

    def wait(self) -> int:
        """Wait for torchrun and for the last process of its session; returns the exit code.

        Raises RuntimeError for processes that do not end.
        """
        assert self.process is not None
        code = self.process.wait(timeout=120)
        deadline = time.monotonic() + EXIT_SECONDS
        while alive(self.process.pid):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes did not end: {alive(self.process.pid)}")
            time.sleep(0.1)
        return code

    def newest(self) -> Path:
        """The newest checkpoint."""
        return newest_first(self.path / layout.CHECKPOINTS)[0]


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(session: int) -> list[int]:
    """The pids of the processes of a session that have not ended."""
    pids = []
    for entry in Path("/proc").iterdir():
        try:
            after_name = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if entry.name.isdigit() and int(after_name[3]) == session and after_name[0] not in "ZX":
            pids.append(int(entry.name))
    return pids


def kill_rank(drill: Drill) -> None:
    """kill -9 of a random rank."""
    drill.start()
    drill.reach()
    os.kill(drill.random.choice(drill.workers()), signal.SIGKILL)


def kill_ranks(drill: Drill) -> None:
    """kill -9 of all ranks."""
    drill.start()
    drill.reach()
    for pid in drill.workers():
        os.kill(pid, signal.SIGKILL)


def kill_torchrun(drill: Drill) -> None:
    """kill -9 of torchrun: the orphaned ranks must notice, save and exit."""
    drill.start()
    drill.reach()
    assert drill.process is not None
    drill.process.kill()


def restart(drill: Drill) -> None:
    """kill -9 of a rank under torchrun --max-restarts: torchrun restarts the ranks."""
    drill.start(options="--max-restarts=3")
    drill.reach()
    os.kill(drill.random.choice(drill.workers()), signal.SIGKILL)


def in_checkpoint(fault: str) -> Callable[[Drill], None]:
    """A fault of src.drill.faults while a checkpoint is written."""

    def scenario(drill: Drill) -> None:
        drill.start(module=("src.drill.faults", f"{fault}@{drill.random.randint(2, 12)}"))

    return scenario


def truncated(drill: Drill) -> None:
    """The newest checkpoint loses its end."""
    kill_ranks(drill)
    drill.wait()
    os.truncate(drill.newest(), drill.newest().stat().st_size - drill.random.randint(1, 5000))


def flipped(drill: Drill) -> None:
    """One bit of the newest checkpoint is flipped."""
    kill_ranks(drill)
    drill.wait()
    content = bytearray(drill.newest().read_bytes())
    content[drill.random.randrange(len(content))] ^= 0x10
    drill.newest().write_bytes(content)


def sigterm(drill: Drill) -> None:
    """SIGTERM to torchrun, as from a scheduler."""
    drill.start()
    drill.reach()
    assert drill.process is not None
    drill.process.terminate()


def stop_file(drill: Drill) -> None:
    """A file STOP in the run's directory."""
    drill.start()
    drill.reach(high=1500)
    (drill.path / layout.STOP).touch()


def wall_clock(drill: Drill) -> None:
    """train.max_minutes has passed."""
    drill.start(RANKS, "train.max_minutes=0.02")


def resized(drill: Drill) -> None:
    """Killed on 4 ranks, stopped on 2, killed on 8, finished on 4."""
    for ranks, limit in ((RANKS, 700), (2, 1400), (8, 2000)):
        drill.start(ranks)
        drill.reach(limit - 400, limit)
        if ranks == 2:
            (drill.path / layout.STOP).touch()
        else:
            for pid in drill.workers():
                os.kill(pid, signal.SIGKILL)
        drill.wait()


SCENARIOS: dict[str, Callable[[Drill], None]] = {
    "kill -9 of a random rank": kill_rank,
    "kill -9 of all ranks": kill_ranks,
    "kill -9 of torchrun": kill_torchrun,
    "kill -9 of a rank, --max-restarts": restart,
    "killed writing a checkpoint": in_checkpoint("writing"),
    "killed before its rename": in_checkpoint("sealing"),
    "killed after its rename": in_checkpoint("renamed"),
    "newest checkpoint truncated": truncated,
    "newest checkpoint, one byte flipped": flipped,
    "SIGTERM to torchrun": sigterm,
    "STOP file": stop_file,
    "wall clock": wall_clock,
    "disk full during a checkpoint": in_checkpoint("full"),
    "resumed on 2, 8 and 4 ranks": resized,
}
