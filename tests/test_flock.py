"""A lock on an open file, and file systems that have none."""

import errno
import os
from pathlib import Path

import pytest

from src import flock
from src.flock import NoLocks


def opened(file: Path) -> int:
    return os.open(file, os.O_RDWR | os.O_CREAT)


def test_one_holds_it_or_several_share_it(tmp_path: Path) -> None:
    first, second, third = (opened(tmp_path / "lock") for _ in range(3))
    assert flock.take(first)
    assert not flock.take(second)
    assert not flock.take(second, shared=True)
    os.close(first)
    assert flock.take(second, shared=True)
    assert flock.take(third, shared=True)
    assert not flock.take(third)
    os.close(second)
    os.close(third)


@pytest.mark.parametrize("answer", ["ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOLCK", "EINVAL"])
def test_a_file_system_without_locks(answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int, operation: int) -> None:
        raise OSError(getattr(errno, answer), os.strerror(getattr(errno, answer)))

    monkeypatch.setattr("fcntl.flock", fail)
    handle = opened(tmp_path / "lock")
    with pytest.raises(NoLocks, match=os.strerror(getattr(errno, answer))):
        flock.take(handle)
    os.close(handle)


def test_another_error_stays_one(tmp_path: Path) -> None:
    handle = opened(tmp_path / "lock")
    os.close(handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        flock.take(handle)
