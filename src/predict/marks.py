"""Marks of ink on a coarse grid of cells: what is joined, and which of the marks are one digit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPECK = 80  # a mark shorter than this part of the picture's longer side is dirt
PART = 0.02  # of the digit's ink: less is dirt
APART = 0.5  # of the digit's height: a mark as tall stands for itself, a shorter one may be a part of it
NEAR = 0.4  # of the digit's height: a part is not farther away

Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class Mark:
    """cells (rows, columns) of the grid; box (top, bottom, left, right), ends excluded; `mass` of its ink; whether it
    reaches the picture's edge.
    """

    cells: Bits
    box: tuple[int, int, int, int]
    mass: float
    at_edge: bool

    @property
    def tall(self) -> int:
        """Cells of its height."""
        return self.box[1] - self.box[0]

    def with_(self, other: "Mark") -> "Mark":
        """Both as one."""
        box = tuple((min, max)[at % 2](pair) for at, pair in enumerate(zip(self.box, other.box, strict=True)))
        return Mark(
            self.cells | other.cells,
            (box[0], box[1], box[2], box[3]),
            self.mass + other.mass,
            self.at_edge or other.at_edge,
        )


def marks_of(inked: Bits, contrast: NDArray[np.float32], step: int) -> list[Mark]:
    """The marks of a picture, the one with the most ink first; a cell is `step` x `step` pixels."""
    height, width = (-(-side // step) for side in inked.shape)
    room = [(0, height * step - inked.shape[0]), (0, width * step - inked.shape[1])]
    masses = np.pad(np.where(inked, contrast, 0), room).reshape(height, step, width, step).sum((1, 3))
    labels = _labels(masses > 0)
    marks = []
    for label in np.unique(labels[labels > 0]):
        cells = labels == label
        rows, columns = np.nonzero(cells.any(1))[0], np.nonzero(cells.any(0))[0]
        box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
        if max(box[1] - box[0], box[3] - box[2]) < max(height, width) / SPECK:
            continue
        at_edge = box[0] == 0 or box[2] == 0 or box[1] == height or box[3] == width
        marks.append(Mark(cells, box, float(masses[cells].sum()), at_edge))
    return sorted(marks, key=lambda mark: -mark.mass)


def _labels(cells: Bits) -> NDArray[np.int64]:
    """A number for each group of cells that touch, corners included; 0 elsewhere."""
    labels = np.where(cells, np.arange(1, cells.size + 1).reshape(cells.shape), 0)
    while True:
        spread = np.where(cells, _highest_near(labels), 0)
        spread[cells] = spread.ravel()[spread[cells] - 1]  # the label of the cell that the label is named after
        if np.array_equal(spread, labels):
            return labels
        labels = spread


def _highest_near(values: NDArray[Any]) -> NDArray[Any]:
    """The largest of each value and its eight neighbours; down and then across, which numpy does many times faster."""
    padded = np.pad(values, 1)
    down = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    return np.asarray(np.maximum(np.maximum(down[:, :-2], down[:, 1:-1]), down[:, 2:]))


def digit_of(marks: list[Mark]) -> tuple[Mark, int]:
    """(the largest digit, with its parts; how many digits there are).

    What reaches the edge (a table, a finger, a shadow) is a digit only where nothing else is.
    """
    inner = [mark for mark in marks if not mark.at_edge]
    if inner and inner[0].mass >= PART * marks[0].mass:
        marks = inner
    digit, *others = marks
    digits = 1
    for mark in others:
        if mark.mass < PART * digit.mass:
            continue
        if mark.tall < APART * digit.tall:
            if _gap(digit, mark) < NEAR * digit.tall:
                digit = digit.with_(mark)
        elif mark.mass > 5 * PART * digit.mass:
            digits += 1
    return digit, digits


def grown(cells: Bits) -> Bits:
    """The cells and their neighbours."""
    return _highest_near(cells)


def _gap(one: Mark, other: Mark) -> float:
    """Cells between the nearest cells of two marks, along the longer of down and across."""
    first, second = np.argwhere(one.cells), np.argwhere(other.cells)
    first = first[:: max(1, len(first) // 300)]
    return float(np.abs(first[:, None] - second[None]).max(2).min())
