"""The training job with one fault built in, for the drill: `-m src.drill.faults FAULT@N key=value ...`.

The fault strikes rank 0 at its N-th checkpoint: `writing` dies with half of the file written, `sealing` with
all of it under its temporary name, `renamed` after it got its name and before the old one goes, `full` finds
the disk full.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing.errors import record  # noqa: TID251

from src import console, files, train
from src.run import archive

FULL_BYTES = 4096  # what a full disk still takes


def main() -> None:
    """Set the fault, then train."""
    fault, _, number = sys.argv.pop(1).partition("@")
    strike = {"writing": _writing, "sealing": _sealing, "renamed": _renamed, "full": _full}[fault]
    archive.write = _nth(int(number), archive.write, strike)
    train.main()


def _nth(number: int, write: Callable[..., str], strike: Callable[..., str]) -> Callable[..., str]:
    calls = 0

    def counting(*arguments: Any) -> str:
        nonlocal calls
        calls += 1
        return strike(write, *arguments) if calls == number else write(*arguments)

    return counting


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _writing(write: Callable[..., str], *arguments: Any) -> str:
    def half(content: object, stream: Any) -> None:
        stream.write(b"PK" + bytes(10_000))
        stream.flush()
        _die()

    torch.save = half  # type: ignore[assignment]
    return write(*arguments)


def _sealing(write: Callable[..., str], *arguments: Any) -> str:
    vars(files)["replace"] = _die
    return write(*arguments)


def _renamed(write: Callable[..., str], *arguments: Any) -> str:
    write(*arguments)
    _die()
    raise AssertionError


def _full(write: Callable[..., str], *arguments: Any) -> str:
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, hard))
    try:
        return write(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


if __name__ == "__main__":
    console.run_and_leave(record(main))
