"""The strokes of the ten digits in several hands, from Pillow's built-in bitmap font.

FreeType's outlines differ between its versions; the bitmap font is the same in all of Pillow's. Lengths are in
points: a map of distances is SIZE x SIZE of them. All arithmetic is on integers.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

HANDS = 12  # ways to write each digit
SHAKE = 9  # how far a hand moves the corners of a stroke
ROUND = 2  # how often corners are rounded
NODES = 20  # of a digit at most
POINTS = 64  # of the strokes of a digit
SIZE = 256  # side of a map of distances
NEAR = 4  # distances are in quarters of a point
PITCH = (24, 36)  # points per pixel of the font, down and across: the font's digits are narrow
ONE = 1 << 8  # 1.0 in fixed point

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int32]


def write(words: Integers) -> tuple[Integers, Bytes]:
    """Each digit in each hand, from (10 * HANDS, NODES * 2) random numbers.

    Returns (10 * HANDS, POINTS, 2) points along the strokes as (row, column) from the middle of the map, and
    (10 * HANDS, SIZE, SIZE) the distance of each point of the map to the strokes, in quarters, at most 255.
    """
    strokes, distances = [], []
    for number, shakes in enumerate(words):
        nodes, joined = _skeleton(number // HANDS)
        shake = shakes.reshape(NODES, 2)[: len(nodes)] % (2 * SHAKE + 1) - SHAKE
        curve = _curve(nodes + shake, joined)
        strokes.append(curve[np.arange(POINTS) * len(curve) // POINTS] - SIZE // 2)
        distances.append(_distances(curve))
    return np.stack(strokes), np.stack(distances)


def _skeleton(digit: int) -> tuple[Integers, Integers]:
    """Nodes (n, 2) on the map, and which are joined, (n, n), from the glyph of the font.

    Its upright strokes are two pixels wide, so a node is the middle of two pixels side by side; a pixel alone
    counts as two. Neighbours are joined, diagonal ones only where there is no way around the corner.
    """
    glyph = Image.new("L", (8, 13))
    ImageDraw.Draw(glyph).text((1, 1), str(digit), fill=255, font=ImageFont.load_default_imagefont())
    ink = np.pad(np.asarray(glyph) > 0, 1)
    node = ink[:, 1:-1] & (ink[:, 2:] | ~ink[:, :-2])
    pixels = np.argwhere(node)
    joined = np.zeros((len(pixels), len(pixels)), np.int32)
    for one, (row, column) in enumerate(pixels):
        for other, (below, beside) in enumerate(pixels):
            near = max(abs(row - below), abs(column - beside)) == 1
            around = row != below and column != beside and (node[row, beside] or node[below, column])
            joined[one, other] = near and not around
    middle = (pixels.min(0) + pixels.max(0)) * PITCH // 2
    return (pixels * PITCH - middle + SIZE // 2).astype(np.int32), joined


def _curve(nodes: Integers, joined: Integers) -> Integers:
    """Points (n, 2) along the joined nodes, rounded by subdivision: halve every edge, then average neighbours."""
    nodes = nodes * ONE
    for rounds in (ROUND, 1, 1):
        one, other = np.nonzero(np.triu(joined))
        ends = np.concatenate([one, other])
        new = np.tile(np.arange(len(one)) + len(nodes), 2)
        nodes = np.concatenate([nodes, (nodes[one] + nodes[other]) // 2])
        joined = np.zeros((len(nodes), len(nodes)), np.int32)
        joined[ends, new] = joined[new, ends] = 1
        degree = joined.sum(1, keepdims=True)
        for _ in range(rounds):
            average = (nodes + joined @ nodes // degree) // 2
            nodes = np.where(degree > 1, average, nodes)  # the ends of strokes stay
    return (nodes // ONE).astype(np.int32)


def _distances(curve: Integers) -> Bytes:
    across = np.arange(SIZE, dtype=np.int32)
    nearest = np.full((SIZE, SIZE), 255**2, np.int32)
    for row, column in curve:
        np.minimum(nearest, (across[:, None] - row) ** 2 + (across - column) ** 2, out=nearest)
    roots = np.searchsorted(np.arange(256) ** 2, nearest * NEAR**2, side="right") - 1  # whole, without rounding
    return roots.astype(np.uint8)
