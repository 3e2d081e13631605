"""The processes above this one, as proc(5) shows them.

Variables are inherited from an earlier job, a parent job or a shell's profile. Processes are not: the nearest launcher
above this process is the one that started it.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MPI_PROGRAMS = {
    *("mpirun", "mpiexec", "orterun", "orted", "prterun", "prted", "prte"),
    *("mpiexec.hydra", "mpirun.openmpi", "mpirun.mpich", "hydra_pmi_proxy", "hydra_bstrap_proxy", "pmi_proxy"),
    *("mpirun_rsh", "mpispawn"),
}
SLURM_STEP = re.compile(r"slurmstepd: \[(?P<job>\d+)(?:[+.]\d+)*\.(?P<step>\w+)\]")
PROC = Path("/proc")
MOST_ANCESTORS = 1000  # a process that ends while it is looked at could make a circle


@dataclass(frozen=True)
class Launcher:
    """A process that starts tasks.

    `kind` is "slurm" or "mpi", `step` Slurm's ("batch", "interactive", "0", ...), `first` the process below it on the
    way to this one.
    """

    kind: str
    pid: int
    first: int
    step: str = ""


def nearest() -> Launcher | None:
    """The nearest launcher above this process; None if there is none, or a container hides it."""
    below = os.getpid()
    for pid in _ancestors():
        words = command(pid)
        if match := SLURM_STEP.match(words[0]):
            return Launcher("slurm", pid, below, match["step"])
        if os.path.basename(words[0]) in MPI_PROGRAMS:
            return Launcher("mpi", pid, below)
        below = pid
    return None


def _ancestors() -> Iterator[int]:
    """The pids of the parent, its parent and so on, without process 1."""
    pid = os.getpid()
    for _ in range(MOST_ANCESTORS):
        try:
            pid = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            return
        if pid <= 1:
            return
        yield pid


def command(pid: int) -> list[str]:
    """The words of the process's command line; one empty word if it cannot be read."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return [""]


def variables(pid: int) -> dict[str, str]:
    """The environment that the process was started with; {} if it cannot be read."""
    try:
        entries = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return {
        os.fsdecode(name): os.fsdecode(value) for name, _, value in (entry.partition(b"=") for entry in entries) if name
    }
