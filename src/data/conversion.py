"""Pictures as one mapped array: converted once, by all processors, going on after a kill, whole or not there.

The work lies in a hidden folder beside the result until its last picture is in: source.json (of what, in which shape),
`done` (a byte for each chunk that is safe on the disk) and the array itself, in its full size from the start.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import __version__ as pillow

from src import files
from src.data import folders, idx, pixels
from src.data.pixels import BadPicture, Size
from src.data.progress import Counted
from src.errors import UserError

IMAGES, LABELS, CLASSES = "images", "labels", "classes.json"
SOURCE, DONE = "source.json", "done"  # the first says what the arrays were made of, and when: copies differ there alone
NAMES = (IMAGES, LABELS, CLASSES)
CHUNK_BYTES, CHUNK_PICTURES = 1 << 24, 512  # converted and flushed at once
READERS = 16  # threads that look at headers: a network's file system is slow one by one
MOST_NAMED = 3  # broken pictures in an error
Shape = tuple[int, ...]


class Pictures(Protocol):
    """What is converted: files of class folders, or of a list, or the rows of a table."""

    @property
    def origin(self) -> Path:
        """Where they are, for people."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""

    @property
    def labels(self) -> Sequence[int]:
        """The class of each picture."""

    @property
    def fingerprint(self) -> str:
        """What differs where the pictures do."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What a picture is called in an error."""

    def sources(self, start: int, stop: int) -> Sequence[pixels.Source]:
        """The pictures start <= i < stop. Called by several threads; raises OSError."""


class Broken(Exception):
    """Pictures that no pixels can be made of: index and reason of each."""

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


@dataclass(frozen=True)
class _Plan:
    """The array of n pictures: (height, width) or (3, height, width) bytes each, brought to that size or in it."""

    count: int
    shape: Shape
    scaled: bool
    fits_others: bool

    @property
    def chunk(self) -> int:
        return max(1, min(CHUNK_PICTURES, CHUNK_BYTES // self.each))

    @property
    def each(self) -> int:
        return int(np.prod(self.shape))

    @property
    def header(self) -> bytes:
        return idx.header((self.count, *self.shape))

    @property
    def bytes(self) -> int:
        return len(self.header) + self.count * self.each


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
            _fill(part, plan, pictures, report)
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
) -> _Plan:
    """The plan of the work that a kill left, or of new work."""
    old = _json(part / SOURCE)
    if old.get("key") == key:
        report(f"{part}: going on with the conversion that was stopped")
        return _Plan(len(pictures), tuple(old["shape"]), bool(size), shape is not None)
    shutil.rmtree(part, ignore_errors=True)
    plan = _Plan(len(pictures), _shape(pictures, size, shape, report), bool(size), shape is not None)
    free = shutil.disk_usage(part.parent).free
    if free < plan.bytes:
        raise UserError(
            f"data.root: {part.parent} has {free / 1e6:,.0f} MB free, the converted pictures take "
            f"{plan.bytes / 1e6:,.0f}",
            fix="make room there, name another folder with data.root=, or a smaller data.image_size=",
        )
    part.mkdir()
    with (part / IMAGES).open("wb") as stream:
        stream.write(plan.header)
        stream.truncate(plan.bytes)
    (part / DONE).write_bytes(bytes(-(-plan.count // plan.chunk)))
    files.write_text(part / SOURCE, json.dumps({"key": key, "shape": plan.shape, "pillow": pillow}) + "\n")
    return plan


def _shape(pictures: Pictures, size: int, shape: Shape | None, report: folders.Report) -> Shape:
    """The shape of all pictures: colour if one of them is. Raises UserError where they have several sizes."""
    if shape and size:
        return shape
    grey, sizes = _headers(pictures, size, report)
    if size:
        return (size, size) if grey else (3, size, size)
    (width, height), first = next(iter(sizes.items()))
    wanted = (shape[-1], shape[-2]) if shape else (width, height)
    for (width, height), index in sizes.items():
        if (width, height) != wanted:
            _refuse_size(pictures, (width, height), index, wanted, None if shape else first)
    return shape or ((height, width) if grey else (3, height, width))


def _headers(pictures: Pictures, size: int, report: folders.Report) -> tuple[bool, dict[Size, int]]:
    """(whether all are grey, each size and the first picture that has it). Raises Broken where none can be read."""
    grey, sizes, broken = True, dict[Size, int](), dict[int, str]()
    counted = Counted("looking at the pictures", len(pictures), report)
    starts = range(0, len(pictures), CHUNK_PICTURES)
    with pixels.quiet(), ThreadPoolExecutor(READERS) as executor:
        try:
            for found in executor.map(lambda start: list(_headers_from(pictures, start)), starts):
                for index, seen in found:
                    if isinstance(seen, str):
                        broken[index] = seen
                        continue
                    grey = grey and seen[0]
                    sizes.setdefault(seen[1], index)
                if len(sizes) > 1 and not size:
                    return grey, sizes
                counted(len(found))
        finally:
            executor.shutdown(cancel_futures=True)
            counted.end()
    if not sizes:
        raise Broken(broken)
    return grey, sizes


def _headers_from(pictures: Pictures, start: int) -> Iterator[tuple[int, tuple[bool, Size] | str]]:
    """(index, what its header says or why it cannot be read) of a chunk of pictures. Raises UserError."""
    for index, source in enumerate(pictures.sources(start, min(start + CHUNK_PICTURES, len(pictures))), start):
        try:
            yield index, pixels.header(source)
        except BadPicture as error:
            yield index, str(error)
        except OSError as error:
            raise _unreadable(pictures, index, error) from None


def _refuse_size(pictures: Pictures, size: Size, index: int, wanted: Size, first: int | None) -> None:
    other = "those of the training set" if first is None else pictures.name(first)
    raise UserError(
        f"{pictures.name(index)}: is {size[0]} x {size[1]} pixels, {other} {wanted[0]} x {wanted[1]}",
        fix="data.image_size=64 brings all to one size",
    )


def _unreadable(pictures: Pictures, index: int, error: OSError) -> UserError:
    return UserError(
        f"{pictures.name(index)}: cannot be read ({files.reason(error)})", fix=files.advice(error, "move it away")
    )


def _fill(part: Path, plan: _Plan, pictures: Pictures, report: folders.Report) -> None:
    """Convert the chunks that are not done, with a thread for each processor: Pillow lets them run together.

    A thread ends with the process, whatever ends it. Raises Broken, UserError, OSError.
    """
    done = (part / DONE).read_bytes()
    waiting = [number for number, is_done in enumerate(done) if not is_done]
    ready = min(sum(done) * plan.chunk, plan.count)
    counted = Counted(f"converting {len(pictures):,} pictures", plan.count, report, ready)
    work = _Work(part, plan, pictures, counted)
    executor = ThreadPoolExecutor(len(os.sched_getaffinity(0)))
    try:
        with pixels.quiet():
            futures = [executor.submit(work.chunk, number) for number in waiting]
            ended, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in ended:
                future.result()
    finally:
        work.stopped = True
        executor.shutdown(cancel_futures=True)
        counted.end()
        work.close()
    if work.broken:
        raise Broken(dict(sorted(work.broken.items())))


class _Work:
    """The open files of a conversion; `chunk` is called by several threads."""

    def __init__(self, part: Path, plan: _Plan, pictures: Pictures, counted: Callable[[int], None]) -> None:
        self.broken: dict[int, str] = {}
        self.stopped = False  # another thread has failed
        self._plan, self._pictures, self._counted = plan, pictures, counted
        self._images, self._done = (os.open(part / name, os.O_WRONLY) for name in (IMAGES, DONE))

    def chunk(self, number: int) -> None:
        """Convert the pictures of a chunk, and note that it is done once it is safe on the disk."""
        plan, start = self._plan, number * self._plan.chunk
        sources = self._pictures.sources(start, min(start + plan.chunk, plan.count))
        whole = True
        for index, source in enumerate(sources, start):
            if self.stopped:
                return
            try:
                picture = self._read(index, source)
            except BadPicture as error:
                self.broken[index], whole = str(error), False
                continue
            _write(self._images, picture.tobytes(), len(plan.header) + index * plan.each)
            self._counted(1)
        if whole:
            files.sync(self._images)
            _write(self._done, b"\1", number)

    def _read(self, index: int, source: pixels.Source) -> Any:
        shape, plan = self._plan.shape, self._plan
        wanted = (shape[-1], shape[-2])
        try:
            picture = pixels.read(source, len(shape) == 3, wanted if plan.scaled else None)
        except OSError as error:
            raise _unreadable(self._pictures, index, error) from None
        if picture.shape != shape:
            _refuse_size(
                self._pictures, (picture.shape[-1], picture.shape[-2]), index, wanted, None if plan.fits_others else 0
            )
        return picture

    def close(self) -> None:
        """Close the files."""
        os.close(self._images)
        os.close(self._done)


def _write(handle: int, data: bytes, offset: int) -> None:
    """Write all of it: a disk that fills takes a part first."""
    while data:
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written


def _finish(part: Path, plan: _Plan, pictures: Pictures) -> None:
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
