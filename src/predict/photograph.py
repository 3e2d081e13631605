"""The strokes of one digit in a photograph, or in a drawing with thin strokes, as MNIST's preparation wants them: light
on dark, even, alone, and about as thick as MNIST's.

The light is taken away by a closing, wider than any stroke; what stands out of the noise is ink; ink that is joined is
a mark, and a digit is the largest mark with what belongs to it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.predict import paper, ruled
from src.predict.marks import Mark, digit_of, grown, marks_of

WORKING = 1000  # pixels of the longer side, in which strokes are looked for
COARSE = 250  # cells of the longer side, in which marks are found
DEVIATIONS = 6  # of the paper's grain: what differs more is ink
LEAST, CLEAR = 0.03, 0.1  # contrast that is ink at all, and below which the reading is doubtful
WIDEST = 1.4  # a digit's width, of its height
LONGEST = 160  # pixels of a digit's longer side, while its strokes are widened
BLOT = 0.35  # thickness of the digit's longer side: no pen, a stain or a lamp
THIN, THICK = 0.075, 0.11  # thickness of the digit's longer side: strokes below are widened, and to what

Floats = NDArray[np.float32]
Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class Strokes:
    """ink (height, width) in [0, 1], light on dark, of one digit alone; whether it was `light` on dark paper, of `thin`
    strokes, `alone` in the picture, `clear` of the paper's grain; whether the paper `is_ruled`; `doubt` says what
    speaks against the reading.
    """

    ink: Floats
    light: bool
    thin: bool
    alone: bool
    clear: bool
    is_ruled: bool
    doubt: str


def find(grey: Floats) -> Strokes | None:
    """The strokes of the largest digit in a picture (height, width) in [0, 1]; None where no ink stands out.

    At half the size, and at a quarter, the grain of the paper averages out: they are tried where ink hardly stands out.
    """
    found: list[Strokes] = []
    for size in (WORKING, WORKING // 2, WORKING // 4):
        strokes = _find(paper.resized(grey, size))
        if strokes and strokes.clear:
            return strokes
        found += [strokes] if strokes else []
    return found[0] if found else _find(paper.resized(grey, WORKING), opposite=True)


def _find(grey: Floats, opposite: bool = False) -> Strokes | None:
    contrast, light = paper.contrast(grey, opposite)
    grain = 1.4826 * float(np.median(np.abs(contrast)))
    contrast, is_ruled = ruled.taken_out(contrast, max(DEVIATIONS * grain, LEAST))
    standing = contrast > max(DEVIATIONS * grain, LEAST)
    if not standing.any():
        return None
    inked = standing & (contrast > 0.3 * np.quantile(contrast[standing], 0.9))
    step = max(1, max(grey.shape) // COARSE)
    marks = marks_of(inked, contrast, step)
    if not marks:
        return None
    digit, digits = digit_of(marks)
    near = np.kron(grown(digit.cells), np.ones((step, step), bool))[: grey.shape[0], : grey.shape[1]]
    strength = float(np.quantile(contrast[near & inked], 0.9))
    ink = _boxed(np.where(near, ((contrast / strength - 0.25) / 0.5).clip(0, 1), 0))
    thickness = _thickness(ink) / max(ink.shape)
    clear = strength > max(CLEAR, 2 * DEVIATIONS * grain)
    alone = np.count_nonzero(digit.cells) == sum(np.count_nonzero(mark.cells) for mark in marks)
    doubt = _doubt(digit, digits, thickness, "" if clear else f"faint: {100 * strength:.0f} % contrast")
    return Strokes(_widened(ink) if thickness < THIN else ink, light, thickness < THIN, alone, clear, is_ruled, doubt)


def _doubt(digit: Mark, digits: int, thickness: float, faint: str) -> str:
    top, bottom, left, right = digit.box
    reasons = {
        f"{digits} marks as large as a digit: only the largest is read": digits > 1,
        "it reaches the edge of the picture: is it cut off?": digit.at_edge,
        "wider than a digit: several that touch?": right - left > WIDEST * (bottom - top),
        "a blot, no strokes?": thickness > BLOT,
        faint: faint != "",
    }
    return "; ".join(reason for reason, holds in reasons.items() if holds)


def _boxed(ink: Floats) -> Floats:
    """What is left without the empty rows and columns around."""
    rows, columns = np.nonzero(ink.any(1))[0], np.nonzero(ink.any(0))[0]
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)


def _widened(ink: Floats) -> Floats:
    """The ink with its strokes widened to THICK of its longer side, and room around."""
    step = -(-max(ink.shape) // LONGEST)
    height, width = (-(-side // step) for side in ink.shape)
    padded = np.pad(ink, [(0, height * step - ink.shape[0]), (0, width * step - ink.shape[1])])
    pooled = padded.reshape(height, step, width, step).max((1, 3))
    radius = max(0.0, (THICK * max(pooled.shape) - _thickness(pooled)) / 2)
    return _disc(np.pad(pooled, int(radius) + 1), radius)


def _thickness(ink: Floats) -> float:
    """Pixels: twice the area by the length of the edge, which has 4 / pi times as many pixels' sides."""
    inside = np.pad(ink > 0.5, 1)
    sides = np.count_nonzero(inside[1:] != inside[:-1]) + np.count_nonzero(inside[:, 1:] != inside[:, :-1])
    return 2 * float(np.count_nonzero(inside)) / max(1.0, sides * np.pi / 4)


def _disc(ink: Floats, radius: float) -> Floats:
    """The largest value within a radius of each pixel."""
    reach = int(radius)
    result = ink
    for down in range(-reach, reach + 1):
        half = int((radius**2 - down**2) ** 0.5)
        across = np.lib.stride_tricks.sliding_window_view(np.pad(ink, ((0, 0), (half, half))), 2 * half + 1, 1).max(-1)
        result = np.maximum(result, np.roll(across, down, 0))  # the rim is empty
    return result
