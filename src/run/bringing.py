"""Bringing a run back from its mirror: the whole of it or nothing, and no checkpoint whose bytes are others."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from src import files
from src.run import layout, seal
from src.run.manifest import Manifest, newest_first
from src.run.store import Store, StoreFailed

PART = ".mirror.part"  # in the run's folder: what was fetched, until all is there
Warn = Callable[[str], None]


def bring_back(
    store: Store, found: Manifest, path: Path, above: int, refuse: Callable[[Path], None], warn: Warn
) -> tuple[int | None, list[str]]:
    """Put the run of the mirror into the folder at `path`, with its newest whole checkpoint above that step.

    Returns the checkpoint's step, None where there is none (then nothing is changed), and the names of damaged ones.
    The settings come first: `refuse` raises UserError for those of another run. Raises StoreFailed, and OSError of
    this disk.
    """
    part = path / PART
    shutil.rmtree(part, ignore_errors=True)
    first = [name for name in found.files if name in (layout.CONFIG, layout.PROVENANCE) or _is_model(name)]
    try:
        _fetch(store, found, part, first)
        refuse(part)
        _fetch(store, found, part, [name for name in found.files if name not in first])
        newest, damaged = _newest(store, found, part, above, warn)
        if newest is None:
            return None, damaged
        _fetch_best(store, found, part, newest)
        _put_in_place(part, path)
        return step_of(newest.name), damaged
    finally:
        shutil.rmtree(part, ignore_errors=True)


def step_of(name: str) -> int:
    """The step of a checkpoint's name."""
    return int(name.removesuffix(".pt").removeprefix("step-"))


def _is_model(name: str) -> bool:
    return name.startswith(f"{layout.MODEL}/")


def _fetch(store: Store, found: Manifest, part: Path, names: list[str]) -> None:
    for name in names:
        try:
            store.download(f"{found.id}/{name}", part / name)
        except FileNotFoundError:
            raise StoreFailed(f"{found.id}/{name} is not there") from None


def _newest(store: Store, found: Manifest, part: Path, above: int, warn: Warn) -> tuple[Path | None, list[str]]:
    """(the newest checkpoint that is whole and above the step, the names of those that are not whole)."""
    damaged: list[str] = []
    for name in newest_first(found.checkpoints):
        if step_of(name) <= above:
            break
        if _is_brought(store, found, name, part):
            return part / layout.CHECKPOINTS / name, damaged
        damaged.append(name)
        warn(f"DAMAGED: {store.shown}/{found.id}: {name} is not what was written; looking for the one before")
    if damaged:
        warn(f"DAMAGED: {store.shown}/{found.id} has no good checkpoint left that is newer than this disk's")
    return None, damaged


def _is_brought(store: Store, found: Manifest, name: str, part: Path) -> bool:
    """Whether the checkpoint is there now, and its bytes are those that were sealed."""
    file = part / layout.CHECKPOINTS / name
    try:
        store.download(f"{found.id}/{layout.CHECKPOINTS}/{name}", file)
    except FileNotFoundError:
        return False
    if seal.is_whole(file):
        return True
    file.unlink()
    return False


def _fetch_best(store: Store, found: Manifest, part: Path, newest: Path) -> None:
    """best.pt, where the mirror has it whole."""
    if not found.best:
        return
    if found.best != newest.name and not _is_brought(store, found, found.best, part):
        return
    file = part / layout.CHECKPOINTS / found.best
    if seal.of(file) == found.best_sha256:
        best = part / layout.CHECKPOINTS / layout.BEST
        if best != file:
            files.link_or_copy(file, best)
            if file != newest:
                file.unlink()


def _put_in_place(part: Path, path: Path) -> None:
    """Move everything to its name; the settings come last: a folder without them is no run yet."""
    names = [file.relative_to(part) for file in part.rglob("*") if file.is_file()]
    for name in sorted(names, key=lambda name: (str(name) == layout.CONFIG, name.parts[0] != layout.CHECKPOINTS)):
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(part / name, os.O_RDONLY)
        try:
            files.sync(handle)
        finally:
            os.close(handle)
        os.replace(part / name, target)
        files.sync_folder(target.parent)
