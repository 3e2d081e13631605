"""The curves of a run as rows of numbers, as many as fit the page."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from src.run.results import AVERAGED

Facts = dict[str, Any]
TRAIN = ("step", "loss", "lr", "samples_per_second")  # a row of the training curves
GRAD_NORM = "grad_norm"  # a column too, of runs with optim.clip_norm
TEST = ("step", "epoch")  # a row of the test curves, before the metrics


def of(train: list[Facts], test: list[Facts], names: Sequence[str], rows: int) -> Facts:
    """The curves of the training and of these metrics, at most `rows` points of each narrow one."""
    normed = any(GRAD_NORM in line for line in train)
    spiky = ("loss", GRAD_NORM) if normed else ("loss",)
    measured = [*names, *averages(names, test)]
    return {
        "train": table(train, (*TRAIN, GRAD_NORM) if normed else TRAIN, rows, spiky),
        "test": table(test, (*TEST, *measured), rows, measured[:1]),
    }


def averages(names: Sequence[str], test: list[Facts]) -> list[str]:
    """The columns of what the averaged weights measured, of the metrics that have one."""
    columns = [AVERAGED + name for name in names]
    return [one for one in columns if one not in names and any(one in line for line in test)]


def table(lines: list[Facts], columns: Sequence[str], rows: int, spiky: Sequence[str]) -> Facts:
    """The columns of the lines as rows, of which no more are kept than fit the page: wide ones are fewer.

    What is highest and lowest in the `spiky` columns stays.
    """
    values = [[line.get(name) for name in columns] for line in lines]
    most = max(rows * len(TRAIN) // max(len(TRAIN), len(columns)), 12)
    return {"columns": list(columns), "rows": thin(values, most, *map(columns.index, spiky))}


def thin(rows: Sequence[list[Any]], most: int, *columns: int) -> list[list[Any]]:
    """At most `most` rows: the ends, and of each stretch the lowest and highest of each of these columns."""
    if len(rows) <= most:
        return list(rows)

    columns = columns or (0,)
    kept, parts = {0, len(rows) - 1}, max(1, most // 2 // len(columns) - 1)
    edges = [len(rows) * part // parts for part in range(parts + 1)]
    for heights in ([_height(row[column]) for row in rows] for column in columns):
        for start, end in pairwise(edges):
            kept |= {min(range(start, end), key=heights.__getitem__), max(range(start, end), key=heights.__getitem__)}
    return [rows[at] for at in sorted(kept)]


def _height(value: Any) -> float:
    return value if isinstance(value, int | float) and math.isfinite(value) else math.inf
