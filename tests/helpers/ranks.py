"""Real ranks for tests: forked from this process, which has imported torch, or started by torchrun."""

import contextlib
import faulthandler
import os
import pickle
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from src import config, train
from src.drill import faults
from src.world import world as distributed
from src.world.world import World

ROOT = Path(__file__).parent.parent.parent
torch.optim.SGD([torch.zeros(1)])  # the first optimizer imports for a second: once here, not in every fork
HUNG_SECONDS = 300  # a rank that takes longer prints its stack and ends


@dataclass
class Job:
    """What a job left behind: exit codes in rank order, everything its ranks printed, the run directory."""

    codes: list[int]
    output: str
    values: list[Any] = field(default_factory=list)

    @property
    def run(self) -> Path:
        found = re.findall(r"^(?:run      (.+?) \(|(.+?): is finished)", self.output, re.MULTILINE)
        assert found, self.output
        return Path(found[-1][0] or found[-1][1])


class Forked:
    """Ranks forked from this process, each with torchrun's variables; they share a fresh store."""

    def __init__(
        self, world_size: int, work: Callable[[], Any], folder: Path, environment: dict[str, str] | None = None
    ) -> None:
        self._folder, (self._store, port) = folder, _store()
        self.pids: list[int] = []
        for rank in range(world_size):
            variables = {
                "RANK": str(rank),
                "WORLD_SIZE": str(world_size),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": str(world_size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                **(environment or {}),
            }
            pid = os.fork()
            if pid == 0:
                _child(rank, work, folder, variables)
            self.pids.append(pid)

    def runs(self) -> bool:
        """Whether a rank has not ended yet."""
        return any(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None for pid in self.pids)

    def wait(self) -> Job:
        """What the ranks left, once the last of them has ended."""
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]
        os.kill(self._store, signal.SIGKILL)
        os.waitpid(self._store, 0)
        ranks = range(len(self.pids))
        files = [self._folder / f"value-{rank}" for rank in ranks]
        values = [pickle.loads(file.read_bytes()) if file.exists() else None for file in files]
        output = "".join((self._folder / f"output-{rank}").read_text() for rank in ranks)
        return Job(codes, output, values)


def fork(world_size: int, work: Callable[[], Any], folder: Path, environment: dict[str, str] | None = None) -> Job:
    """Run `work` in as many forked processes as ranks, and wait for them."""
    return Forked(world_size, work, folder, environment).wait()


def _store() -> tuple[int, str]:
    """Start a process that holds a store, as torchrun's agent does; returns its pid and the store's port.

    The store is in a process of its own because a fork would copy locks that its threads hold at that moment.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))
        os.write(writing, str(store.port).encode())
        signal.pause()
    os.close(writing)
    port = os.read(reading, 10).decode()
    os.close(reading)
    return pid, port


def _child(rank: int, work: Callable[[], Any], folder: Path, variables: dict[str, str]) -> None:
    code = 70
    try:
        os.environ.update(variables)
        handle = os.open(folder / f"output-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True, file=2)
        sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1, closefd=False)
        value = work()
        (folder / f"value-{rank}").write_bytes(pickle.dumps(value))
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):  # a test may have filled the disk
            sys.stdout.flush()
        os._exit(code)


def in_world(world_size: int, work: Callable[[World], Any], folder: Path, *settings: str) -> Job:
    """Run `work(world)` on ranks that have met; fails with their output if one fails."""

    def join() -> Any:
        with distributed.join(config.parse(list(settings)).train) as world:
            return work(world)

    job = fork(world_size, join, folder)
    assert not any(job.codes), job.output
    return job


def start_job(
    world_size: int, folder: Path, *settings: str, environment: dict[str, str] | None = None, fault: str = ""
) -> Forked:
    """Start the training job in forked ranks, its runs below `folder`, perhaps with a fault of src.drill.faults."""

    def work() -> None:
        fixed = [f"run.root={folder / 'runs'}", "track.wandb=disabled", "log.seconds=0", "model.name=logistic"]
        sys.argv = ["train", *filter(None, [fault]), *fixed, *settings]
        faults.main() if fault else train.main()

    (folder / "runs").mkdir(exist_ok=True, parents=True)
    return Forked(world_size, work, folder, environment)


def run_job(
    world_size: int, folder: Path, *settings: str, environment: dict[str, str] | None = None, fault: str = ""
) -> Job:
    """The training job in forked ranks, to its end."""
    return start_job(world_size, folder, *settings, environment=environment, fault=fault).wait()


def good_job(world_size: int, folder: Path, *settings: str, environment: dict[str, str] | None = None) -> Job:
    """A job that must succeed."""
    job = run_job(world_size, folder, *settings, environment=environment)
    assert not any(job.codes), job.output
    return job


def torchrun(world_size: int, *settings: str, options: tuple[str, ...] = (), **extra: Any) -> "subprocess.Popen[str]":
    """Start the training job under torchrun; its output is in `.stdout`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={world_size}"]
    return subprocess.Popen(
        [*command, *options, "-m", "src.train", "model.name=logistic", "track.wandb=disabled", *settings],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", **extra.pop("environment", {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **extra,
    )


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
    """Compute with one thread, as a rank does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
