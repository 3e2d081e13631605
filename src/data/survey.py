"""A look at all pictures before they are converted: grey or colour, and of which size."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from src import files
from src.data import folders, pixels
from src.data.pixels import BadPicture, Size
from src.data.progress import Counted
from src.errors import UserError

AT_ONCE = 512  # pictures
READERS = 16  # threads: a network's file system is slow one by one

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


def shape_of(pictures: Pictures, size: int, shape: Shape | None, report: folders.Report) -> Shape:
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
            refuse_size(pictures, (width, height), index, wanted, None if shape else first)
    return shape or ((height, width) if grey else (3, height, width))


def _headers(pictures: Pictures, size: int, report: folders.Report) -> tuple[bool, dict[Size, int]]:
    """(whether all are grey, each size and the first picture that has it). Raises Broken where none can be read."""
    grey, sizes, broken = True, dict[Size, int](), dict[int, str]()
    counted = Counted("looking at the pictures", len(pictures), report)
    starts = range(0, len(pictures), AT_ONCE)
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
    for index, source in enumerate(pictures.sources(start, min(start + AT_ONCE, len(pictures))), start):
        try:
            yield index, pixels.header(source)
        except BadPicture as error:
            yield index, str(error)
        except OSError as error:
            raise unreadable(pictures, index, error) from None


def refuse_size(pictures: Pictures, size: Size, index: int, wanted: Size, first: int | None) -> None:
    """Raise UserError for a picture of another size than `wanted`: that of the picture `first`, or of others."""
    other = "those of the training set" if first is None else pictures.name(first)
    side = 64 if first is not None else min(wanted)  # pictures of a model's size fit the model
    raise UserError(
        f"{pictures.name(index)}: is {size[0]} x {size[1]} pixels, {other} {wanted[0]} x {wanted[1]}",
        fix=f"data.image_size={side} brings all to one size",
    )


def unreadable(pictures: Pictures, index: int, error: OSError) -> UserError:
    """The error for a picture whose file cannot be opened or read."""
    return UserError(
        f"{pictures.name(index)}: cannot be read ({files.reason(error)})", fix=files.advice(error, "move it away")
    )
