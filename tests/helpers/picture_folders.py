"""Folders of drawn pictures, a class for each colour or brightness."""

import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

CLASSES = ("blue", "green", "red")


def drawn(name: str, seed: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> Image.Image:
    """A disc in the colour of the class, or in its brightness, at a random place."""
    image = Image.new(mode, size)
    generator = random.Random(f"{name} {seed}")
    left, top = generator.randrange(size[0] // 2), generator.randrange(size[1] // 2)
    colour: Any = 60 + 60 * CLASSES.index(name) if mode == "L" else name
    ImageDraw.Draw(image).ellipse((left, top, left + size[0] // 2, top + size[1] // 2), fill=colour)
    return image


def draw(
    root: Path,
    train: int = 30,
    test: int = 9,
    *,
    size: tuple[int, int] = (12, 12),
    mode: str = "RGB",
    kind: str = "png",
) -> Path:
    """`train` and `test` pictures in three classes, below root/train and root/test; returns `root`."""
    for split, count in (("train", train), ("test", test)):
        for index in range(count):
            name = CLASSES[index % 3]
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            drawn(name, index if split == "train" else -1 - index, size, mode).save(folder / f"{index:04}.{kind}")
    return root
