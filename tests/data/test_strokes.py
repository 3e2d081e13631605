"""The strokes of the ten digits: joined, rounded, and with exact distances to them."""

import numpy as np
import pytest

from src.data import strokes


def written(digit: int, hand: int = 0) -> tuple[strokes.Integers, strokes.Bytes]:
    """One digit in one hand, whose corners are not moved."""
    words = np.full((10 * strokes.HANDS, strokes.NODES * 2), strokes.SHAKE, np.int32)
    points, distances = strokes.write(words[: digit * strokes.HANDS + hand + 1])
    return points[-1], distances[-1]


@pytest.mark.parametrize("digit", range(10))
def test_a_skeleton_is_one_piece(digit: int) -> None:
    nodes, joined = strokes._skeleton(digit)
    assert len(nodes) <= strokes.NODES
    assert np.array_equal(joined, joined.T)
    assert not joined.diagonal().any()
    reached = np.eye(len(nodes), dtype=np.int64)[0]
    for _ in nodes:
        reached = reached + joined @ reached > 0
    assert reached.all()


def test_a_curve_keeps_the_ends_of_a_stroke_and_rounds_its_corners() -> None:
    corner = np.array([[0, 0], [0, 100], [100, 100]], np.int32)
    joined = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.int32)
    curve = strokes._curve(corner, joined)
    assert curve[[0, 2]].tolist() == [[0, 0], [100, 100]]
    row, column = curve[1]
    assert 0 < row < 50
    assert 50 < column < 100
    assert len(curve) == 17, "three times each edge is halved: 2, 4, 8, 16 edges"


def test_distances_are_whole_quarters_rounded_down() -> None:
    found = strokes._distances(np.array([[10, 10], [10, 20]], np.int32))
    for row, column in ((10, 10), (10, 12), (13, 14), (0, 0), (11, 11), (40, 20)):
        nearest = min(np.hypot(row - 10, column - 10), np.hypot(row - 10, column - 20))
        assert found[row, column] == int(4 * nearest)
    assert found[255, 255] == 255, "farther than the largest that a byte holds"


def test_points_lie_on_the_strokes() -> None:
    points, distances = written(7)
    assert points.shape == (strokes.POINTS, 2)
    places = points + strokes.SIZE // 2
    assert (distances[places[:, 0], places[:, 1]] == 0).all()


def test_the_random_numbers_move_the_corners() -> None:
    words = np.full((10 * strokes.HANDS, strokes.NODES * 2), strokes.SHAKE, np.int32)
    words[1] += 5
    points, _ = strokes.write(words[:3])
    assert np.array_equal(points[0], points[2])
    assert not np.array_equal(points[0], points[1])
