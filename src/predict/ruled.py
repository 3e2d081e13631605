"""Lined and squared paper: the printed lines, taken out of a picture's contrast.

A line of the paper is what no digit is: straight, thin, and as long as the picture. The picture is sheared until a row
of it is inked over most of its length. What a line adds to the contrast is known from the rest of its row, so that the
stroke of a digit that crosses it, or lies on it, keeps its ink.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLOPE = 0.15  # the steepest line, about 8 degrees
COVERED = 0.6  # of a row: more is no digit
WIDEST = 0.03  # of the picture's side: a wider one is a table, a shadow, a stroke
EDGES = 15  # parts of the width that an edge is one of
COLUMNS = 160  # of a picture are looked at
FINE = 5  # slopes between two of the first search
HALF = 0.5  # of a row must be in the picture

Floats = NDArray[np.float32]
Bits = NDArray[np.bool_]


def taken_out(contrast: Floats, least: float) -> tuple[Floats, bool]:
    """(the contrast (height, width) without the lines of the paper, whether there are any); `least` is ink."""
    found = False
    for across in (False, True):
        turned = contrast.T if across else contrast
        if (lines := _lines(turned, least)) is not None:
            found, turned = True, _behind(turned, lines, least)
            contrast = turned.T if across else turned
    return np.ascontiguousarray(contrast), found


def _lines(contrast: Floats, least: float) -> Floats | None:
    """What lines across the picture add to its contrast; None without any."""
    (height, width), inked = contrast.shape, contrast > least
    edge = -(-width // EDGES)
    if not (inked[:, :edge].any() and inked[:, -edge:].any()):
        return None  # most pictures cost no time
    step = max(1, width // COLUMNS)
    seen = inked[:, ::step]
    pace = 2.0 / max(height, width)  # a line is off by a pixel at the edges, at most
    slopes = np.arange(-SLOPE, SLOPE + pace, 2 * pace)
    best = max(slopes, key=lambda slope: _score(seen, slope, step))
    best = max(best + pace * np.arange(-FINE, FINE + 1) / FINE, key=lambda slope: _score(seen, slope, step))
    rows = _thin((_coverage(seen, best, step) > COVERED) & _reaches(seen, best, step), WIDEST * height)
    if not rows.any():
        return None
    strength = np.where(rows, _middle(contrast[:, ::step], best, step), 0)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(strength, 1), 3).max(-1)  # its edges are soft
    places = np.arange(height)[:, None] - _shifts(width, 1, best)[None]
    return np.asarray(np.interp(places, np.arange(height), around), np.float32)


def _shifts(columns: int, step: int, slope: float) -> NDArray[np.float64]:
    """By how many rows a line of this slope is lower at each column than in the middle."""
    return np.asarray(slope * step * (np.arange(columns) - (columns - 1) / 2), np.float64)


def _sheared(values: NDArray[Any], slope: float, step: int) -> tuple[NDArray[Any], Bits]:
    """(the picture in which lines of this slope are rows, which of its pixels are inside)."""
    height, width = values.shape
    rows = np.arange(height)[:, None] + np.rint(_shifts(width, step, slope)).astype(np.int64)
    inside = (rows >= 0) & (rows < height)
    return values[rows.clip(0, height - 1), np.arange(width)], inside


def _coverage(inked: Bits, slope: float, step: int) -> NDArray[np.float64]:
    """Which share of each sheared row is inked; 0 of a row that is mostly outside."""
    sheared, inside = _sheared(inked, slope, step)
    there = inside.sum(1)
    return np.where(there > HALF * inked.shape[1], (sheared & inside).sum(1) / np.maximum(there, 1), 0)


def _reaches(inked: Bits, slope: float, step: int) -> Bits:
    """Which sheared rows are inked at both edges, as far as these are inside: a large digit's strokes are not."""
    sheared, inside = _sheared(inked, slope, step)
    there, edge = sheared | ~inside, -(-inked.shape[1] // EDGES)
    return np.asarray(there[:, :edge].any(1) & there[:, -edge:].any(1))


def _score(inked: Bits, slope: float, step: int) -> float:
    """How much of the picture's ink is in rows that are covered, the more the better they are."""
    coverage = _coverage(inked, slope, step)
    return float((coverage[coverage > COVERED] ** 2).sum())


def _middle(contrast: Floats, slope: float, step: int) -> NDArray[np.float64]:
    """The median of each sheared row, which a digit does not move by much."""
    sheared, inside = _sheared(contrast, slope, step)
    return np.nanmedian(np.where(inside, sheared, np.nan), 1).clip(0)


def _thin(rows: Bits, widest: float) -> Bits:
    """The rows of groups that are narrow enough, and the ones beside them."""
    kept = np.zeros_like(rows)
    for start, end in _groups(rows):
        if end - start <= max(2.0, widest):
            kept[max(0, start - 1) : end + 1] = True
    return kept


def _groups(rows: Bits) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], rows, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _behind(contrast: Floats, lines: Floats, least: float) -> Floats:
    """The contrast without the lines; where ink lies on a line, which hides a part of it, as strong as beside it."""
    left = contrast - lines
    inked = left > least
    ink = float(np.quantile(contrast[inked], 0.9)) if inked.any() else 1.0
    whole = left * (ink / np.maximum(ink - lines, 0.2 * ink))
    return np.asarray(np.maximum(whole, np.minimum(contrast, 0)), np.float32)
