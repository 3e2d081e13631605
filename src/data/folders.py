"""The folder of a data set's files: what is missing there or in its way, and who may write into it."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from src import files, flock
from src.errors import UserError
from src.flock import NoLocks

WAIT_SECONDS = 5.0  # for another process, before a line says so

Report = Callable[[str], None]


def say(text: str) -> None:
    """A line beside the job's own output."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Make the folder; what fails in the block on this side is a UserError."""
    try:
        files.make_folder(folder)
        yield
    except OSError as error:
        raise UserError(
            f"data.root: {folder} cannot be written ({files.reason(error)})",
            fix=files.advice(error, "name another folder with data.root="),
        ) from None


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Around reading or mapping a file: what fails is a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({files.reason(error)})", fix=files.advice(error)) from None
    except (MemoryError, RuntimeError) as error:  # torch's, where the file cannot be mapped
        reason = str(error).partition("\n")[0]
        raise UserError(f"{file}: cannot be mapped ({reason})", fix="allow more memory: ulimit -v unlimited") from None


@contextmanager
def alone(folder: Path, report: Report) -> Iterator[bool]:
    """Around what one process at a time may do in the folder, also where several nodes share it.

    Yields whether others may do the same at the same time: where the file system has no locks. Raises OSError.
    """
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        began, reported = time.monotonic(), False
        while not flock.take(handle):
            if time.monotonic() - began > WAIT_SECONDS and not reported:
                reported = True
                report(f"waiting for another process that brings the files into {folder} (it holds {folder}/.lock)")
            time.sleep(0.1)
        yield False
    except NoLocks:
        yield True
    finally:
        os.close(handle)


def absent(folder: Path, names: Iterable[str]) -> list[str]:
    """The names of the files that are not there. Raises UserError where one may not look, or a link leads nowhere."""
    try:
        for path in (folder, *folder.parents):
            if problem := files.in_the_way(path):
                raise UserError(f"data.root: {problem}", fix="mend it, or name another folder with data.root=")
        gone = [name for name in names if not (folder / name).exists()]
    except PermissionError:
        raise UserError(
            f"data.root: {folder} cannot be read by user {os.geteuid()}", fix="chmod it, or be its owner"
        ) from None
    except OSError as error:
        raise UserError(
            f"data.root: {folder} cannot be read ({files.reason(error)})",
            fix=files.advice(error, "name another folder with data.root="),
        ) from None
    for name in gone:
        if problem := files.in_the_way(folder / name):
            raise UserError(f"data.root: {problem}", fix="mend the link, or remove it to have the file fetched again")
    return gone


def misplaced(folder: Path, names: Iterable[str], levels: int = 2) -> str:
    """Where the files are instead, if data.root= is one of the folders inside or around them; '' elsewhere.

    `folder` is so many `levels` below data.root.
    """
    root, below, names = folder.parents[levels - 1], folder.parts[-levels:], list(names)
    for place in (root, root / below[-1], root / below[0], root / "data" / Path(*below)):
        if place != folder and all(files.exists(place / name) for name in names):
            right = place.absolute().parents[levels - 1]
            fits = place.absolute().parts[-levels:] == below
            return f"the files are in {place}: " + (f"data.root={right}?" if fits else f"move them to {folder}")
    return ""
