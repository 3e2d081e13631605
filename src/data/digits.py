"""The embedded data set: 70,000 rendered digits in MNIST's own files, the same bytes on every machine.

Each is written in one of several hands, bent, slanted, stretched and more or less thick at random, then fitted
and centred as MNIST's are. All arithmetic is on integers, and the random numbers are the raw words of PCG64,
which numpy keeps stable (its distributions it does not).
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from src import files
from src.data import folders, strokes
from src.data.strokes import HANDS, NEAR, ONE, SIZE, Bytes, Integers

SHA256 = {
    "train-images-idx3-ubyte": "7b6b02cb9b414938c70ea83c408bab8da76fcd9abe6c0a2948a98dc702e5ab67",
    "train-labels-idx1-ubyte": "67ac1a99a70cc09c81b86eb55ced6a526c0f4d7d43490e0e5ed15a8ae487d730",
    "t10k-images-idx3-ubyte": "deda875b73a5b929d42bc2786ad5390c702ecad4455cfb88b4d7c037213b0a54",
    "t10k-labels-idx1-ubyte": "006aba2e611fc681555d35a645cb9be9c5e2a37ee2747003447eafb895c767a5",
}
SPLITS = (("train", 60_000), ("t10k", 10_000))
SEED = 1998
AT_ONCE = 1000  # images rendered at a time: 20 MB

# The random numbers of an image: its label, its hand, then these, from the least to the most.
SIDEWAYS = (-110, -14, -10), (150, 14, 10)  # slant, bend and snake: of first, second and third order
UPWARDS = (-90, -20), (90, 20)  # tilt and wave
FIT = (170, 30, -8, -8), (330, 75, 8, 8)  # width to height, the pen, distance from the middle
WORDS = 11

# As in MNIST, a digit fits a box of 20 x 20 pixels and has its centre of mass at pixel (14, 14) of 28 x 28.
PIXEL = 16  # lengths in the image are in sixteenths of a pixel
BOX = 19 * PIXEL  # the rest is for the soft edge
MIDDLE = 14
RIM = ((0, 256), (181, 181), (256, 0), (181, -181), (0, -256), (-181, -181), (-256, 0), (-181, 181))


def write(raw: Path, report: Callable[[str], None] = folders.say) -> None:
    """Render both splits into four IDX files, each whole under its name or not there.

    One process at a time does it, also where several nodes share the folder; a file that is there is never
    touched. Raises UserError where the folder cannot be written.
    """
    with folders.writing(raw), folders.alone(raw, report) as shared:
        if not all((raw / name).exists() for name in SHA256):
            _write_splits(raw, shared)


def _write_splits(raw: Path, shared: bool) -> None:
    random = np.random.PCG64(SEED)  # one stream: the hands, the training images, the test images
    hands = strokes.write(_words(random, 10 * HANDS, strokes.NODES * 2))
    for split, count in SPLITS:
        words = _words(random, count, WORDS)
        labels = (words[:, 0] % 10).astype(np.uint8)
        batches = (words[at : at + AT_ONCE] for at in range(0, count, AT_ONCE))
        _save(
            raw / f"{split}-images-idx3-ubyte", (count, 28, 28), (_render(*hands, batch) for batch in batches), shared
        )
        _save(raw / f"{split}-labels-idx1-ubyte", (count,), [labels], shared)


def _words(random: np.random.PCG64, count: int, each: int) -> Integers:
    """(count, each) random numbers of 31 bits."""
    return (random.random_raw(count * each) >> np.uint64(33)).astype(np.int32).reshape(count, each)


def _save(file: Path, shape: tuple[int, ...], parts: Iterable[Bytes], shared: bool) -> None:
    """Write the header (zero, zero, 8 for unsigned bytes, dimensions, sizes) and the parts, unless it is there."""
    if file.exists():
        return
    with files.whole(file, shared) as temporary, temporary.open("wb") as stream:
        stream.write(bytes((0, 0, 8, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape))
        for part in parts:
            stream.write(part.tobytes())


class _Warp:
    """How the strokes of each of n digits are bent: sideways, then up and down; and how that goes back."""

    def __init__(self, words: Integers) -> None:
        self.slant, self.bend, self.snake = _between(words[:, 2:5], *SIDEWAYS)
        self.tilt, self.wave = _between(words[:, 5:7], *UPWARDS)

    def there(self, row: Integers, column: Integers) -> tuple[Integers, Integers]:
        """Points (n, ...) of the map, bent."""
        column = column + self._sideways(row)
        return row + self._upwards(column), column

    def back(self, row: Integers, column: Integers) -> tuple[Integers, Integers]:
        """The exact inverse."""
        row = row - self._upwards(column)
        return row, column - self._sideways(row)

    def _sideways(self, row: Integers) -> Integers:
        shift: Integers = (self.slant * row >> 8) + (self.bend * row * row >> 12)
        shift += self.snake * row * row * row >> 18
        return shift

    def _upwards(self, column: Integers) -> Integers:
        shift: Integers = (self.tilt * column >> 8) + (self.wave * column * column >> 12)
        return shift


def _between(words: Integers, low: tuple[int, ...], high: tuple[int, ...]) -> list[Integers]:
    """One (n, 1, 1) array for each column of `words`, from low to high, both included."""
    return [
        (least + words[:, at] % (most - least + 1))[:, None, None]
        for at, (least, most) in enumerate(zip(low, high, strict=True))
    ]


def _render(points: Integers, distances: Bytes, words: Integers) -> Bytes:
    """(n, 28, 28) from (n, WORDS) random numbers.

    The bent strokes tell the digit's size; then each pixel is bent back into the map of distances, and is the
    brighter the deeper it lies under the pen.
    """
    warp = _Warp(words)
    stretch, pen, lower, right = _between(words[:, 7:11], *FIT)
    drawn = words[:, 0] % 10 * HANDS + words[:, 1] % HANDS
    # The rim of the pen along the strokes, (n, 8, POINTS): its extent is the digit's, however bent.
    rim = points[drawn, None] + pen[..., None] * np.array(RIM, np.int32)[:, None] // (ONE * NEAR)
    rows, columns = warp.there(rim[..., 0], rim[..., 1])
    (top, bottom), (left, end) = _ends(rows), _ends(columns)
    step = np.maximum((bottom - top) * ONE, (end - left) * stretch) // BOX  # points in a length of 1

    pixels = (np.arange(28, dtype=np.int32) - MIDDLE) * PIXEL
    row = (pixels[:, None] + lower) * step // ONE + (top + bottom) // 2
    column = (pixels + right) * step // stretch + (left + end) // 2
    edge = PIXEL // 2 * step  # half a pixel: bent strokes have longer soft edges, the box ends them
    in_rows = (row > top - edge // ONE) & (row < bottom + edge // ONE)
    in_columns = (column > left - edge // stretch) & (column < end + edge // stretch)

    row, column = (at.clip(-SIZE // 2, SIZE // 2 - 1) + SIZE // 2 for at in warp.back(row, column))
    distance = distances.reshape(-1)[(drawn[:, None, None] * SIZE + row) * SIZE + column]
    depth = (pen - np.arange(256, dtype=np.int32)) * ONE // NEAR
    grey = (depth * 255 // (PIXEL * step) + 128).clip(0, 255).astype(np.uint8)
    images = np.take_along_axis(grey, distance.reshape(len(words), 1, -1), 2).reshape(-1, 28, 28)
    return _centred(images * (in_rows & in_columns))


def _ends(points: Integers) -> tuple[Integers, Integers]:
    return points.min((1, 2), keepdims=True), points.max((1, 2), keepdims=True)


def _centred(images: Bytes) -> Bytes:
    """The images moved by whole pixels, so that the centre of mass is within half a pixel of (14, 14)."""
    place = np.arange(28, dtype=np.int32)
    mass = images.sum((1, 2), dtype=np.int32)
    row, column = (
        place - ((mass * MIDDLE - images.sum(across, dtype=np.int32) @ place + mass // 2) // mass)[:, None]
        for across in (2, 1)
    )
    moved: Bytes = images[np.arange(len(images))[:, None, None], row[:, :, None] % 28, column[:, None, :] % 28]
    return moved
