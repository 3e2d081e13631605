"""This process's rank, read from torchrun's variables, and how many ranks this host takes. Imports no torch."""

import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from src.errors import UserError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
MAX_DEFAULT_RANKS = 8  # ranks by the number of processors, where neither Slurm nor the user gives a number
CGROUP = Path("/sys/fs/cgroup")
NVIDIA_SMI_SECONDS = 60  # it takes 10 s on a host with eight GPUs whose driver is not kept loaded


@dataclass(frozen=True)
class Ranks:
    """This process's rank, how many ranks there are, and the same on this host alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def ranks() -> Ranks:
    """The ranks by torchrun's variables; a world of one if none is set. Raises UserError for impossible values."""
    given = {name: os.environ[name] for name in NAMES if name in os.environ}
    if not given:
        return Ranks()
    if "RANK" not in given or "WORLD_SIZE" not in given:
        missing = "WORLD_SIZE" if "RANK" in given else "RANK"
        values = " ".join(f"{name}={value}" for name, value in given.items())
        raise UserError(
            f"{values}: set, but {missing} is not", fix="start with torchrun, or unset them for one process"
        )
    for name, value in given.items():
        if not value.isdigit():
            raise UserError(f"{name}={value}: must be a whole number")
    rank, size = int(given["RANK"]), int(given["WORLD_SIZE"])
    if rank >= size:
        raise UserError(f"RANK={rank} WORLD_SIZE={size}: the rank must be below the world size")
    return Ranks(rank, size, int(given.get("LOCAL_RANK", rank)), int(given.get("LOCAL_WORLD_SIZE", size)))


def is_rank0() -> bool:
    """Whether this process is rank 0; true for impossible variables too, or no process would report them."""
    try:
        return ranks().rank == 0
    except UserError:
        return True


def ranks_per_node() -> int:
    """How many ranks a launcher starts on this host.

    Its GPUs; without GPUs RANKS_PER_NODE, else the CPUs that Slurm has allocated here, else the processors that this
    process may use, at most MAX_DEFAULT_RANKS. Raises UserError for a RANKS_PER_NODE that is no number.
    """
    if count := gpus():
        return count
    if given := os.environ.get("RANKS_PER_NODE", ""):
        if not given.isdigit() or int(given) < 1:
            raise UserError(f"RANKS_PER_NODE={given}: must be a whole number of at least 1")
        return int(given)
    allocated = os.environ.get("SLURM_CPUS_ON_NODE", "") if "SLURM_JOB_ID" in os.environ else ""
    return int(allocated) if allocated.isdigit() else min(processors(), MAX_DEFAULT_RANKS)


def gpus() -> int:
    """The GPUs that this process may use, without asking torch.

    In a Slurm job those that it has allocated on this node, else those that nvidia-smi lists and CUDA_VISIBLE_DEVICES
    does not hide. Raises UserError if nvidia-smi does not answer.
    """
    if "SLURM_JOB_ID" in os.environ:
        allocated = os.environ.get("SLURM_GPUS_ON_NODE", "")
        return int(allocated) if allocated.isdigit() else 0
    if not shutil.which("nvidia-smi"):
        return 0
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"nvidia-smi: no answer within {NVIDIA_SMI_SECONDS} s",
            fix="reload the driver or reboot, or give the number of ranks",
        ) from None
    except OSError:  # not executable
        return 0
    return _visible(sum(line.startswith("GPU ") for line in done.stdout.splitlines()))


def _visible(count: int) -> int:
    """How many of so many GPUs CUDA_VISIBLE_DEVICES leaves visible: CUDA ignores what follows an invalid entry."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return count
    entries = (entry.strip() for entry in listed.split(","))
    return min(count, len(list(itertools.takewhile(lambda entry: entry and not entry.startswith("-"), entries))))


def processors() -> int:
    """CPUs that this process may use, at least 1: its affinity (Slurm, taskset) and its cgroup's quota (a container).

    Unlike nproc it does not obey OMP_NUM_THREADS.
    """
    try:
        allowed = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not Linux
        allowed = float(os.cpu_count() or 1)
    return max(1, int(min(allowed, *map(_quota, _cgroups()), float("inf"))))


def _cgroups() -> list[Path]:
    """The folders of this process's cgroup and of those above it: each may have a quota."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = CGROUP / "cpu" if controllers else CGROUP
        folder = root / path.strip("/")
        folders += [folder for folder in (folder, *folder.parents) if folder.is_relative_to(root)]
    return folders


def _quota(cgroup: Path) -> float:
    """CPUs that a cgroup of version 2 or 1 grants; infinity where it has no limit."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota, period = ((cgroup / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(quota) / int(period) if int(quota) > 0 else float("inf")
    except (OSError, ValueError):  # no such controller; "max"
        return float("inf")
