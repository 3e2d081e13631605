"""Processes as /proc shows them."""

from pathlib import Path


def family(pid: int) -> list[int]:
    """The pids of a process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(found for child in children for found in family(int(child)))]


def environment(pid: int) -> dict[str, str]:
    """The variables that a process was started with; a forked rank's, which /proc does not know, as far as top does."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    found = dict(entry.split("=", 1) for entry in entries if "=" in entry)
    name, _, rank = Path(f"/proc/{pid}/comm").read_text().strip().rpartition("python-rank")
    return found | ({"RANK": rank} if rank.isdigit() and not name else {})
