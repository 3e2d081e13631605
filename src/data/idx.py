"""Data sets of four IDX files, MNIST's own format: arrays of numbers of any shape.

Format: http://yann.lecun.com/exdb/mnist - two zero bytes, the type of the numbers, the number of dimensions, then
each dimension as a big-endian 32-bit integer, then the numbers, big-endian.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src import schema
from src.data import folders, labels
from src.data.column import Column, Rows
from src.data.splits import Spec, Split, check_test, spec_of
from src.errors import UserError

TRAIN: tuple[str, ...] = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST: tuple[str, ...] = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FILES = TRAIN + TEST

BYTES, INTEGERS = 0x08, 0x0C
TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def train(folder: Path, settings: schema.Data) -> tuple[Split, Spec]:
    """The training samples, and what a model must know of them. Raises UserError where the files do not fit."""
    stored = stored_of(folder, *TRAIN)
    if not labels.are_classes(stored.targets):
        return stored, spec_of(stored)
    classes, names = labels.names_of(folder / TRAIN[1], stored.targets)
    split = Split(stored.inputs, labels.classes_of(stored.targets, labels.numbers_of(names)))
    return split, spec_of(split, classes, names)


def test(folder: Path, settings: schema.Data, spec: Spec) -> Split:
    """The test samples of a model's data, with its labels. Raises UserError where they are of another kind."""
    stored, known = stored_of(folder, *TEST), labels.numbers_of(spec.names)
    if labels.are_classes(stored.targets):
        if known is not None:
            labels.refuse_unknown(folder / TEST[1], stored.targets, known)
        stored = Split(stored.inputs, labels.classes_of(stored.targets, known))
    check_test(folder, stored, spec, TEST[1])
    return stored


def assumed(settings: schema.Data) -> Spec:
    """What a data set that is not here yet is taken for: MNIST's pictures."""
    return Spec((28, 28), torch.uint8, 10)


def split_of(raw: Path, inputs: str, targets: str) -> Split:
    """The two files of a split whose labels are the classes' numbers. Raises UserError where they do not fit."""
    stored = stored_of(raw, inputs, targets)
    if not labels.are_classes(stored.targets):
        return stored
    return Split(stored.inputs, labels.classes_of(stored.targets, None))


def stored_of(raw: Path, inputs: str, targets: str) -> Split:
    """The two files of a split, mapped, as they are. Raises UserError where they do not fit each other."""
    samples, stored = read(raw / inputs), read(raw / targets)
    if len(samples) != len(stored):
        raise UserError(f"{raw}: {inputs} holds {len(samples)} samples, {targets} {len(stored)} labels")
    if len(stored) == 0:
        raise UserError(f"{raw / targets}: holds no samples")
    for name, array in ((inputs, samples), (targets, stored)):
        if 0 in array.shape:
            raise UserError(
                f"{raw / name}: holds {len(array)} samples of the shape {tuple(array.shape[1:])}: no numbers"
            )
    return Split(samples, stored)


def header(shape: tuple[int, ...], kind: int = BYTES) -> bytes:
    """What comes before the numbers of an array; `kind` is a key of TYPES."""
    return bytes((0, 0, kind, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)


def read(file: Path) -> Rows:
    """The array in the file, mapped; numbers of several bytes are turned into this machine's order where taken.

    Raises UserError for any other file.
    """
    with folders.reading(file):
        return _read(file)


def _read(file: Path) -> Rows:
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(4)
        kind, dimensions = (start[2], start[3]) if len(start) == 4 else (0, 0)
        sizes = stream.read(4 * dimensions)
    if start[:2] != bytes(2) or kind not in TYPES or not dimensions or len(sizes) != 4 * dimensions:
        raise UserError(f"{file}: is no IDX file (two zero bytes, a type, the number of dimensions, their sizes)")
    shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, len(sizes), 4))
    begin, stored = 4 + len(sizes), np.dtype(TYPES[kind])
    expected = begin + math.prod(shape) * stored.itemsize
    if size != expected:
        raise UserError(f"{file}: is {size} bytes long, its header says {expected}: truncated or damaged")
    mapped = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8)[begin:]
    if stored.itemsize == 1:
        return mapped.view(torch.uint8 if kind == BYTES else torch.int8).view(shape)
    row = math.prod(shape[1:]) * stored.itemsize
    return Column([mapped.view(shape[0], row)], lambda rows: _decoded(rows, stored, shape[1:]))


def _decoded(rows: Tensor, stored: "np.dtype[Any]", shape: tuple[int, ...]) -> Tensor:
    """Rows of bytes (n, ...) as numbers (n, *shape) in this machine's order."""
    numbers = rows.numpy().view(stored)
    return torch.from_numpy(numbers.astype(stored.newbyteorder("="))).view(len(rows), *shape)
