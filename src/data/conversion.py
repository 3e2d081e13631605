"""Pictures as one mapped array: converted once, by all processors, going on after a kill, whole or not there.

The work lies in a hidden folder beside the result until its last picture is in: source.json (of what, in which shape),
`done` (a byte for each chunk that is safe on the disk) and the array itself, in its full size from the start.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import __version__ as pillow

from src import files
from src.data import folders, idx, survey
from src.data.filling import DONE, IMAGES, Plan, fill
from src.data.survey import Pictures, Shape
from src.errors import UserError

LABELS, CLASSES = "labels", "classes.json"
SOURCE = "source.json"  # what the arrays were made of, and when: copies of the pictures differ there alone
NAMES = (IMAGES, LABELS, CLASSES)


def is_current(result: Path, key: dict[str, Any]) -> bool:
    """Whether the result is there, and made of what `key` says."""
    return _json(result / SOURCE).get("key") == key and all(files.exists(result / name) for name in NAMES)


def shape_of(result: Path) -> Shape:
    """The shape of one picture of a result that is there."""
    return tuple(_json(result / SOURCE)["shape"])


def key_of(pictures: Pictures, size: int, shape: Shape | None) -> dict[str, Any]:
    """What a result depends on: the pictures, data.image_size, and the shape where that is given."""
    return {"pictures": pictures.fingerprint, "size": size, "shape": list(shape) if shape else None}


def convert(pictures: Pictures, result: Path, size: int, shape: Shape | None, report: folders.Report) -> None:
    """Make the folder `result` of the pictures, unless it is there already; replaces one of other pictures.

    `size` is data.image_size: both sides, or 0 for the size that all of them have. `shape` is that of other pictures
    that these must fit. One process at a time does it, also where several nodes share the folder. Raises UserError,
    and Broken for pictures that cannot be read; then nothing is left of it, unless the process is killed: the
    next call goes on.
    """
    key = key_of(pictures, size, shape)
    with folders.writing(result.parent), folders.alone(result.parent, report) as shared:
        if is_current(result, key):
            return
        own = f".{os.uname().nodename}-{os.getpid()}" if shared else ""
        part = result.with_name(f".{result.name}{own}.part")
        with _removed_on_failure(part):
            plan = _planned(part, key, pictures, size, shape, report)
            fill(part, plan, pictures, report)
            _finish(part, plan, pictures)
            _rename(part, result)


@contextmanager
def _removed_on_failure(part: Path) -> Iterator[None]:
    try:
        yield
    except Exception:  # not KeyboardInterrupt: that is a kill
        shutil.rmtree(part, ignore_errors=True)
        raise


def _planned(
    part: Path, key: dict[str, Any], pictures: Pictures, size: int, shape: Shape | None, report: folders.Report
) -> Plan:
    """The plan of the work that a kill left, or of new work."""
    old = _json(part / SOURCE)
    if old.get("key") == key:
        plan = Plan(len(pictures), tuple(old["shape"]), bool(size), shape is not None)
        if [(part / name).stat().st_size for name in (IMAGES, DONE)] == [plan.size, plan.chunks]:
            report(f"{part}: going on with the conversion that was stopped")
            return plan
    shutil.rmtree(part, ignore_errors=True)
    plan = Plan(len(pictures), survey.shape_of(pictures, size, shape, report), bool(size), shape is not None)
    free = shutil.disk_usage(part.parent).free
    if free < plan.size:
        raise UserError(
            f"data.root: {part.parent} has {free / 1e6:,.1f} MB free, the converted pictures take "
            f"{plan.size / 1e6:,.1f}",
            fix="make room there, name another folder with data.root=, or a smaller data.image_size=",
        )
    part.mkdir()
    with (part / IMAGES).open("wb") as stream:
        stream.write(plan.header)
        stream.truncate(plan.size)
    (part / DONE).write_bytes(bytes(plan.chunks))
    files.write_text(part / SOURCE, json.dumps({"key": key, "shape": plan.shape, "pillow": pillow}) + "\n")
    return plan


def _finish(part: Path, plan: Plan, pictures: Pictures) -> None:
    """Add the labels and the names of the classes, and make all of it safe."""
    with (part / LABELS).open("wb") as stream:
        stream.write(idx.header((plan.count,), idx.INTEGERS))
        stream.write(np.asarray(pictures.labels, ">i4").tobytes())
    (part / CLASSES).write_text(json.dumps(list(pictures.classes)) + "\n", encoding="utf-8")
    for name in NAMES:
        handle = os.open(part / name, os.O_RDONLY)
        try:
            files.sync(handle)
        finally:
            os.close(handle)
    files.sync_folder(part)


def _rename(part: Path, result: Path) -> None:
    """Give the work its name. What had it, of other pictures, is removed; a job that has it mapped keeps its bytes."""
    old = part.with_name(f"{part.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.rename(result, old)
    try:
        os.rename(part, result)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(part, ignore_errors=True)  # without locks: another process has just made the same
    files.sync_folder(result.parent)
    (result / DONE).unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)


def _json(file: Path) -> dict[str, Any]:
    """The content of a JSON file, {} where it is not there or not whole."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
