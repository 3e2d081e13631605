"""Processes as /proc shows them."""

from pathlib import Path


def family(pid: int) -> list[int]:
    """The pids of a process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in family(int(child)))]
