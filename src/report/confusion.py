"""The confusion matrix of a run: whole where it is legible, the most confused pairs of any number of classes."""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from src.run import layout, results, tables

Matrix = list[list[int]]
MOST_CLASSES = 20  # of a matrix that is legible
MOST_PAIRS = 20
NOT_YET = "Not evaluated yet: the test set is measured after each epoch."
NONE = "The model's measure returns no confusion matrix."


def of(path: Path, evaluated: bool) -> dict[str, Any]:
    """The newest matrix (truth, guess) as `confusion`, or above MOST_CLASSES classes as `pairs`; and why neither.

    `why` is why there is none yet, `unfit` that the model measures none; '' for what is there.
    """
    matrix = results.square(tables.read(path, "confusion"))
    is_large = len(matrix) > MOST_CLASSES
    return {
        "confusion": [] if is_large else matrix,
        "pairs": pairs(matrix) | {"file": str(path / layout.TABLES / "confusion.json")} if is_large else None,
        "why": "" if matrix or evaluated else NOT_YET,
        "unfit": NONE if evaluated and not matrix else "",
    }


def pairs(matrix: Matrix) -> dict[str, Any]:
    """The most confused pairs, the most frequent first: rows of [truth, guess, count, samples of the truth]."""
    rows = heapq.nsmallest(MOST_PAIRS, _mistakes(matrix), key=lambda row: (-row[2], row[0], row[1]))
    samples = {truth: sum(matrix[truth]) for truth, _, _ in rows}
    return {
        "classes": len(matrix),
        "wrong": sum(map(sum, matrix)) - sum(row[at] for at, row in enumerate(matrix)),
        "rows": [[truth, guess, count, samples[truth]] for truth, guess, count in rows],
    }


def _mistakes(matrix: Matrix) -> Iterator[tuple[int, int, int]]:
    """(truth, guess, count) of each pair that was confused."""
    for truth, row in enumerate(matrix):
        for guess, count in enumerate(row):
            if count and guess != truth:
                yield truth, guess, count
