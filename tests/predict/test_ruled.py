"""The printed lines of the paper are taken out of a picture's contrast, and nothing else is."""

import numpy as np
import pytest

from src.predict import ruled

SHAPE = (300, 400)
LEAST = 0.1


def paper(slope: float, *, across: bool = False, apart: int = 40) -> ruled.Floats:
    """Contrast of lines three pixels wide."""
    down, right = np.mgrid[: SHAPE[0], : SHAPE[1]]
    way = right - slope * down if across else down - slope * right
    return np.where(way % apart < 3, 0.3, 0).astype(np.float32)


def stroke() -> ruled.Floats:
    """A seven: its upper stroke lies on a line, the other one crosses some."""
    ink = np.zeros(SHAPE, np.float32)
    ink[77:87, 150:260] = 0.8
    for row in range(80, 260):
        ink[row, 250 - (row - 80) // 2 : 260 - (row - 80) // 2] = 0.8
    return ink


@pytest.mark.parametrize("slope", [0.0, 0.05, -0.1])
@pytest.mark.parametrize("squared", [False, True])
def test_lines_go_and_ink_stays(slope: float, squared: bool) -> None:
    lines = np.maximum(paper(slope), paper(-slope, across=True) if squared else 0)
    left, found = ruled.taken_out(np.maximum(lines, stroke()), LEAST)
    assert found
    inside = (slice(30, -30), slice(30, -30))  # a slanting line leaves the picture near its corners
    assert np.abs(left - stroke())[inside].mean() < 0.01
    assert (left > 0.4)[stroke() > 0].mean() > 0.98, "the stroke is whole"
    assert (left[inside] > LEAST).mean() < 1.1 * (stroke()[inside] > 0).mean()


@pytest.mark.parametrize(
    "picture",
    [
        stroke(),
        np.where(np.mgrid[: SHAPE[0], : SHAPE[1]][0] > 250, 0.8, stroke()).astype(np.float32),  # a table
        np.pad(paper(0)[60:240, 120:280], ((60, 60), (120, 120))),  # bars as wide as digits
        np.maximum(np.pad(paper(0)[:, 40:360], ((0, 0), (40, 40))), np.eye(*SHAPE, 99, np.float32)),  # and a hair
        np.random.default_rng(0).normal(0, 0.1, SHAPE).astype(np.float32),
    ],
    ids=["a digit", "an edge", "short bars", "longer ones", "noise"],
)
def test_what_is_no_line_of_the_paper_stays(picture: ruled.Floats) -> None:
    left, found = ruled.taken_out(picture, LEAST)
    assert not found
    assert np.array_equal(left, picture)
