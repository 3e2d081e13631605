"""The training job with an injected fault, for the drill: `-m src.drill.faults FAULT@N key=value ...`.

The fault occurs on rank 0 at its N-th checkpoint:

    writing    the process is killed when half of the temporary file is written
    sealing    it is killed before the temporary file is renamed
    renamed    it is killed after the rename, before old checkpoints are deleted
    full       the disk is full
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch

from src import files, leaving, train
from src.run import archive

FULL_BYTES = 4096  # limit of a file's size that stands for a full disk


def main() -> None:
    """Inject the fault, then train."""
    fault, _, number = sys.argv.pop(1).partition("@")
    inject = {"writing": _writing, "sealing": _sealing, "renamed": _renamed, "full": _full}[fault]
    archive.write = _nth(int(number), archive.write, inject)
    train.main()


def _nth(number: int, write: Callable[..., str], inject: Callable[..., str]) -> Callable[..., str]:
    """`write`, whose call of that number is `inject(write, ...)` instead."""
    calls = 0

    def counting(*arguments: Any) -> str:
        nonlocal calls
        calls += 1
        return inject(write, *arguments) if calls == number else write(*arguments)

    return counting


def _kill_self(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _writing(write: Callable[..., str], *arguments: Any) -> str:
    def half(content: object, stream: Any) -> None:
        stream.write(b"PK" + bytes(10_000))
        stream.flush()
        _kill_self()

    torch.save = half  # type: ignore[assignment]
    return write(*arguments)


def _sealing(write: Callable[..., str], *arguments: Any) -> str:
    vars(files)["replace"] = _kill_self
    return write(*arguments)


def _renamed(write: Callable[..., str], *arguments: Any) -> str:
    write(*arguments)
    _kill_self()
    raise AssertionError


def _full(write: Callable[..., str], *arguments: Any) -> str:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, hard))
    try:
        return write(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


if __name__ == "__main__":
    leaving.run_and_leave(main)
