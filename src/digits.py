"""The embedded data set: 70,000 rendered digits in MNIST's own files, the same bytes on every machine.

Glyphs of Pillow's built-in bitmap font (FreeType's outlines differ between its versions), bent, sheared,
scaled, thickened and shifted at random. All arithmetic is on integers, and the random numbers are the raw
words of PCG64, which numpy keeps stable (its distributions it does not).
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SHA256 = {
    "train-images-idx3-ubyte": "acce3f8fd3bb435909d9ac5666e2b3dd6e27bf078b7585cae326b43def07611c",
    "train-labels-idx1-ubyte": "903f68297ee1a2901750140b6eda63b7b52be514abfbe2b69c8546b4d2eb16c7",
    "t10k-images-idx3-ubyte": "900d1de7255064417d33b2f9e5fb696f4aa98bcbb070bd32156b1a477f505341",
    "t10k-labels-idx1-ubyte": "35a55fc9082b11e1347a905e20b72d17747e3fea3506386b0cd7da7cf92bda4d",
}
SPLITS = (("train", 60_000), ("t10k", 10_000))
SEED = 1998
AT_ONCE = 2000  # images rendered at a time: 60 MB of coordinates

SCALE = 16  # mask pixels per pixel of the font
SIZE = 256  # mask side
STROKES = 3  # thicknesses
ONE = 1 << 8  # 1.0 in fixed point
WORDS = 10  # random numbers per image

Words = NDArray[np.int64]


def write(raw: Path) -> None:
    """Render both splits into four IDX files, each whole under its name or not there."""
    raw.mkdir(parents=True, exist_ok=True)
    masks = _masks()
    random = np.random.PCG64(SEED)
    for split, count in SPLITS:
        words = (random.random_raw(count * WORDS) >> np.uint64(33)).astype(np.int64).reshape(count, WORDS)
        labels = (words[:, 0] % 10).astype(np.uint8)
        images = np.concatenate([_render(masks, words[at : at + AT_ONCE]) for at in range(0, count, AT_ONCE)])
        _save(raw / f"{split}-images-idx3-ubyte", (count, 28, 28), images)
        _save(raw / f"{split}-labels-idx1-ubyte", (count,), labels)


def _masks() -> NDArray[np.uint8]:
    """(10, STROKES, SIZE, SIZE): each digit in grey, its centre of mass in the middle, thinnest first."""
    font = ImageFont.load_default_imagefont()
    masks = np.zeros((10, STROKES, SIZE, SIZE), np.uint8)
    for digit in range(10):
        glyph = Image.new("L", (SIZE // SCALE, SIZE // SCALE))
        ImageDraw.Draw(glyph).text((5, 3), str(digit), fill=255, font=font)
        blocks = np.kron(np.asarray(glyph, np.int64), np.ones((SCALE, SCALE), np.int64))
        smooth = _blur(blocks.astype(np.int64), SCALE // 2 + 2)
        for stroke in range(STROKES):
            # The threshold on the blurred glyph sets the thickness; the second blur gives grey edges.
            shape = np.where(smooth > 155 - 25 * stroke, 255, 0).astype(np.int64)
            masks[digit, stroke] = _centred(_blur(shape, SCALE // 4)).astype(np.uint8)
    return masks


def _blur(image: NDArray[np.int64], radius: int) -> NDArray[np.int64]:
    """Two box means in each direction, rounded down."""
    width = 2 * radius + 1
    for axis in (0, 1, 0, 1):
        padded = np.pad(image, [(radius + 1, radius) if axis == side else (0, 0) for side in (0, 1)])
        sums = padded.cumsum(axis)
        image = (
            np.take(sums, range(width, sums.shape[axis]), axis) - np.take(sums, range(image.shape[axis]), axis)
        ) // width
    return image


def _centred(image: Words) -> Words:
    mass = int(image.sum())
    down = SIZE // 2 - int((image.sum(1) * np.arange(SIZE)).sum()) // mass
    right = SIZE // 2 - int((image.sum(0) * np.arange(SIZE)).sum()) // mass
    return np.roll(image, (down, right), (0, 1))


def _render(masks: NDArray[np.uint8], words: Words) -> NDArray[np.uint8]:
    """(n, 28, 28) from (n, WORDS) random numbers: each pixel looks up the mask through a bent affine map."""

    def between(word: int, low: int, high: int) -> Words:
        return (low + words[:, word] % (high - low + 1))[:, None, None]

    # The middle of each pixel, in half pixels around the middle of the image.
    y, x = np.mgrid[-27:28:2, -27:28:2].astype(np.int64)
    y, x = y + between(1, -3, 3), x + between(2, -3, 3)
    across, down = between(3, 150, 220), between(4, 125, 165)
    shear, tilt, bend, wave = between(5, -80, 100), between(6, -40, 40), between(7, -1, 1), between(8, -1, 1)
    unit = SCALE * 5 // 2 // 8  # mask pixels per half pixel, before `across` and `down` stretch it
    column = (across * x + shear * y + bend * y * y) * unit // ONE + SIZE // 2
    row = (down * y + tilt * x + wave * x * x) * unit // ONE + SIZE // 2
    inside = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
    chosen = words[:, 0] % 10 * STROKES + words[:, 9] % STROKES
    flat = (chosen[:, None, None] * SIZE + row.clip(0, SIZE - 1)) * SIZE + column.clip(0, SIZE - 1)
    return np.where(inside, masks.reshape(-1)[flat], 0).astype(np.uint8)


def _save(file: Path, shape: tuple[int, ...], values: NDArray[np.uint8]) -> None:
    temporary = file.with_name(f".{file.name}.part")
    header = bytes((0, 0, 8, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)
    with temporary.open("wb") as stream:
        stream.write(header + values.tobytes())
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, file)
