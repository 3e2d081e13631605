"""The chunks of an array of pictures, converted by all processors, each marked once it is safe on the disk."""

import math
import os
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src import files
from src.data import folders, idx, pixels
from src.data.pixels import BadPicture
from src.data.progress import Counted
from src.data.survey import Broken, Pictures, Shape, refuse_size, unreadable

IMAGES, DONE = "images", "done"  # the array; a byte for each chunk
CHUNK_BYTES, CHUNK_PICTURES = 1 << 24, 512  # converted and flushed at once


@dataclass(frozen=True)
class Plan:
    """The array of n pictures: (height, width) or (3, height, width) bytes each, brought to that size or in it."""

    count: int
    shape: Shape
    scaled: bool
    fits_others: bool

    @property
    def chunk(self) -> int:
        """Pictures in a chunk."""
        return max(1, min(CHUNK_PICTURES, CHUNK_BYTES // self.each))

    @property
    def chunks(self) -> int:
        """Chunks of the array."""
        return -(-self.count // self.chunk)

    @property
    def each(self) -> int:
        """Bytes of a picture."""
        return math.prod(self.shape)

    @property
    def header(self) -> bytes:
        """What comes before the pixels."""
        return idx.header((self.count, *self.shape))

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return len(self.header) + self.count * self.each


def fill(part: Path, plan: Plan, pictures: Pictures, report: folders.Report) -> None:
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

    def __init__(self, part: Path, plan: Plan, pictures: Pictures, counted: Callable[[int], None]) -> None:
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

    def _read(self, index: int, source: pixels.Source) -> NDArray[np.uint8]:
        shape, plan = self._plan.shape, self._plan
        wanted = (shape[-1], shape[-2])
        try:
            picture = pixels.read(source, len(shape) == 3, wanted if plan.scaled else None)
        except OSError as error:
            raise unreadable(self._pictures, index, error) from None
        if picture.shape != shape:
            refuse_size(
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
