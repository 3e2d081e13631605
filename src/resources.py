"""The processors and the memory that this process may use: the machine's, and what its container grants."""

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def processors() -> int:
    """CPUs that this process may use, at least 1: its affinity (Slurm, taskset) and its cgroup's quota (a container).

    Unlike nproc it does not obey OMP_NUM_THREADS.
    """
    try:
        allowed = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not Linux
        allowed = float(os.cpu_count() or 1)
    return max(1, int(min(allowed, *map(_quota, _cgroups()), float("inf"))))


def memory_bytes() -> int:
    """Memory that this process and its page cache may fill: what the machine has to give, and its cgroup's limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([free, *map(_memory_limit, _cgroups("memory"))])


def resident_bytes() -> int:
    """Memory of this process that is not swapped out, what it shares with others included; 0 where it is not known."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not Linux
        return 0


def _memory_limit(cgroup: Path) -> int:
    """Bytes that a cgroup of version 2 or 1 grants; more than there are where it has no limit."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        try:
            return int((cgroup / name).read_text())
        except (OSError, ValueError):  # no such controller; "max"
            continue
    return 2**63


def _cgroups(controller: str = "cpu") -> list[Path]:
    """The folders of this process's cgroup and of those above it: each may have a quota."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = CGROUP / controller if controllers else CGROUP
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
