"""Text as bytes: two files, cut in blocks, each byte with the byte that follows as its target."""

from pathlib import Path

import torch

from src import schema
from src.data import folders
from src.data.splits import Spec, Split, check_test
from src.errors import UserError

TRAIN, TEST = ("train.txt",), ("test.txt",)
FILES = TRAIN + TEST


def train(folder: Path, settings: schema.Data) -> tuple[Split, Spec]:
    """The training text in blocks of data.block bytes. Raises UserError where it is too short."""
    return split_of(folder / TRAIN[0], settings.block), assumed(settings)


def test(folder: Path, settings: schema.Data, spec: Spec) -> Split:
    """The test text in blocks as long as the model's. Raises UserError where it is too short."""
    split = split_of(folder / TEST[0], settings.block)
    check_test(folder, split, spec, TEST[0])
    return split


def assumed(settings: schema.Data) -> Spec:
    """What a model must know; nothing of it depends on the text."""
    return Spec((settings.block,), torch.uint8, 0, (settings.block,), torch.uint8)


def split_of(file: Path, block: int) -> Split:
    """Inputs and targets (n, block) uint8, two views of the mapped file, the second a byte further.

    The last bytes that fill no block are left out. Raises UserError for a text shorter than one block and a byte.
    """
    with folders.reading(file):
        return _split_of(file, block)


def _split_of(file: Path, block: int) -> Split:
    size = file.stat().st_size
    count = (size - 1) // block
    if count < 1:
        raise UserError(
            f"{file}: is {size} bytes long, data.block={block} needs {block + 1} at least",
            fix="take a longer text, or a smaller data.block=" if size > 1 else "take a longer text",
        )
    text = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8)
    return Split(text[: count * block].view(count, block), text[1 : count * block + 1].view(count, block))
