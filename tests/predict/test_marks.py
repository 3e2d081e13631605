"""What is joined is a mark, and a digit is the largest mark with its parts."""

import numpy as np
from numpy.typing import NDArray

from src.predict.marks import digit_of, grown, marks_of


def grid(*boxes: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """100 x 100 pixels with boxes (top, bottom, left, right) of ink."""
    ink = np.zeros((100, 100), np.float32)
    for top, bottom, left, right in boxes:
        ink[top:bottom, left:right] = 1
    return ink


def found(*boxes: tuple[int, int, int, int], step: int = 1) -> tuple[tuple[int, ...], int, bool]:
    """(box of the digit, how many digits there are, whether it reaches the edge)."""
    ink = grid(*boxes)
    digit, digits = digit_of(marks_of(ink > 0, ink, step))
    return digit.box, digits, digit.at_edge


def test_pixels_that_touch_are_a_mark_corners_included() -> None:
    snake = np.zeros((100, 100), np.float32)
    for at in range(5, 95):
        snake[at, at if at % 10 < 5 else 99 - at] = 1  # steps along two diagonals
    spiral = grid((10, 90, 10, 12), (88, 90, 10, 90), (10, 90, 88, 90), (10, 12, 30, 90))
    assert [mark.mass for mark in marks_of(spiral > 0, spiral, 1)] == [spiral.sum()]
    assert sum(mark.mass for mark in marks_of(snake > 0, snake, 1)) == snake.sum()
    assert len(marks_of(grid((10, 20, 10, 20), (20, 30, 20, 30)) > 0, grid((10, 20, 10, 20), (20, 30, 20, 30)), 1)) == 1


def test_a_short_mark_near_by_is_a_part_and_a_tall_one_a_digit() -> None:
    body, bar, far, other = (40, 70, 40, 50), (30, 33, 45, 60), (5, 8, 5, 20), (35, 70, 70, 80)
    assert found(body, bar) == ((30, 70, 40, 60), 1, False)
    assert found(body, far) == (body, 1, False)
    assert found(body, other) == (other, 2, False)
    assert found(body, (60, 61, 80, 81)) == (body, 1, False)  # dirt


def test_the_edge_counts_where_nothing_else_is() -> None:
    assert found((40, 70, 0, 10)) == ((40, 70, 0, 10), 1, True)
    assert found((0, 100, 0, 20), (40, 70, 50, 60)) == ((40, 70, 50, 60), 1, False)


def test_cells_of_several_pixels() -> None:
    assert found((40, 70, 40, 50), step=4) == ((10, 18, 10, 13), 1, False)
    assert np.array_equal(grown(grid((5, 6, 5, 6)) > 0), grid((4, 7, 4, 7)) > 0)
