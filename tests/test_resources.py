"""The processors and the memory that this process may use."""

import os
from pathlib import Path

import pytest

from src import resources

AVAILABLE = sorted(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def no_quota(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This machine's container grants everything."""
    monkeypatch.setattr(resources, "CGROUP", tmp_path / "cgroup")


def quota(folder: Path, version: int, cpus: int) -> None:
    """A limit as the kernel shows it in a cgroup's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    if version == 2:
        (folder / "cpu.max").write_text(f"{cpus * 100_000} 100000\n")
    else:
        (folder / "cpu.cfs_quota_us").write_text(f"{cpus * 100_000}\n")
        (folder / "cpu.cfs_period_us").write_text("100000\n")


def test_the_affinity_counts() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, AVAILABLE[:1])
        assert resources.processors() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_s_quota_counts(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert resources.processors() == 64
    for folder in (resources.CGROUP, resources.CGROUP / "cpu"):
        quota(folder, version, cpus=3)
    assert resources.processors() == 3
    if version == 2:
        for folder in (resources.CGROUP, resources.CGROUP / "cpu"):
            (folder / "cpu.max").write_text("max 100000\n")
        assert resources.processors() == 64


@pytest.mark.parametrize("name", ["memory.max", "memory.limit_in_bytes"])
def test_a_container_s_memory_counts(name: str) -> None:
    machine = resources.memory_bytes()
    assert machine > 2**20
    for folder in (resources.CGROUP, resources.CGROUP / "memory"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1048576\n")
    assert resources.memory_bytes() == 2**20
    for folder in (resources.CGROUP, resources.CGROUP / "memory"):
        (folder / name).write_text("max\n")
    assert resources.memory_bytes() > 2**20
