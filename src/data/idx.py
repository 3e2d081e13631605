"""Data sets of four IDX files, MNIST's own format: arrays of numbers of any shape.

Format: http://yann.lecun.com/exdb/mnist - two zero bytes, the type of the numbers, the number of dimensions, then
each dimension as a big-endian 32-bit integer, then the numbers, big-endian.
"""

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src import schema
from src.data import folders
from src.data.splits import Spec, Split, check_test, spec_of
from src.errors import UserError

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FILES = TRAIN + TEST

BYTES, INTEGERS = 0x08, 0x0C
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def train(folder: Path, settings: schema.Data) -> tuple[Split, Spec]:
    """The training samples, and what a model must know of them. Raises UserError where the files do not fit."""
    split = split_of(folder, *TRAIN)
    return split, spec_of(folder, split)


def test(folder: Path, settings: schema.Data, spec: Spec) -> Split:
    """The test samples of a model's data. Raises UserError where they are of another kind."""
    split = split_of(folder, *TEST)
    check_test(folder, split, spec, TEST[1])
    return split


def assumed(settings: schema.Data) -> Spec:
    """What a data set that is not here yet is taken for: MNIST's pictures."""
    return Spec((28, 28), torch.uint8, 10)


def split_of(raw: Path, inputs: str, targets: str) -> Split:
    """The two files of a split, mapped. Raises UserError where they do not fit each other."""
    samples, labels = read(raw / inputs), read(raw / targets)
    if len(samples) != len(labels):
        raise UserError(f"{raw}: {inputs} holds {len(samples)} samples, {targets} {len(labels)} labels")
    if len(labels) == 0:
        raise UserError(f"{raw / targets}: holds no samples")
    are_classes = labels.dim() == 1 and not labels.is_floating_point()
    return Split(samples, labels.long() if are_classes else labels)


def header(shape: tuple[int, ...], kind: int = BYTES) -> bytes:
    """What comes before the numbers of an array; `kind` is a key of TYPES."""
    return bytes((0, 0, kind, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)


def read(file: Path) -> Tensor:
    """The array in the file: bytes are mapped, not read; other types are read and turned into this machine's order.

    Raises UserError for any other file.
    """
    with folders.reading(file):
        return _read(file)


def _read(file: Path) -> Tensor:
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(4)
        kind, dimensions = (start[2], start[3]) if len(start) == 4 else (0, 0)
        sizes = stream.read(4 * dimensions)
    if start[:2] != bytes(2) or kind not in TYPES or not dimensions or len(sizes) != 4 * dimensions:
        raise UserError(f"{file}: is no IDX file (two zero bytes, a type, the number of dimensions, their sizes)")
    shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, len(sizes), 4))
    begin = 4 + len(sizes)
    expected = begin + math.prod(shape) * np.dtype(TYPES[kind]).itemsize
    if size != expected:
        raise UserError(f"{file}: is {size} bytes long, its header says {expected}: truncated or damaged")
    if kind == BYTES:
        return torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8)[begin:].view(shape)
    numbers = np.fromfile(file, TYPES[kind], offset=begin)
    return torch.from_numpy(numbers.astype(numbers.dtype.newbyteorder("="))).view(shape)
