"""Photographs of handwritten digits by rule: MNIST's test digits as lines of a pen, on paper, in some light.

A digit of 28 x 28 pixels is enlarged, thinned to the middle of its strokes, and drawn again with a pen of any width, so
that size and thickness are free and the handwriting is a person's.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

ENLARGED = 6  # thinning needs strokes of several pixels
PAPER, INK = 0.9, 0.15  # how much of the light they give back

Floats = NDArray[np.float32]
Bits = NDArray[np.bool_]


@dataclass(frozen=True)
class Scene:
    """Lengths: `size` in pixels, `tall` as a share of the picture's height, `pen` as a share of the digit's (or in
    pixels from 1 on), `place` (across, down) of the middle as shares, `turn` in degrees counterclockwise.

    `lined` is the distance of the paper's printed lines as a share of the digit's height, 0 for none, and `squared`
    prints them across too, as dark as `printed` and `aslant` by degrees.
    `light` at the picture's four corners; `lamp` adds a bright spot, `shadow` halves the light left of it;
    `noise` is a standard deviation, of 1.
    """

    size: tuple[int, int] = (1600, 1200)
    tall: float = 0.4
    pen: float = 0.06
    place: tuple[float, float] = (0.5, 0.5)
    turn: float = 0.0
    light: tuple[float, float, float, float] = (0.95, 0.8, 0.75, 0.6)
    lamp: float = 0.0
    shadow: float = 0.0
    noise: float = 0.02
    paper: float = PAPER
    ink: float = INK
    quality: int = 85
    lined: float = 0.0
    squared: bool = False
    printed: float = 0.6
    aslant: float = 0.0


SCENES: dict[str, Scene] = {
    "plain": Scene(),
    "12 megapixels": Scene(size=(4032, 3024), light=(1.0, 0.7, 0.7, 0.4)),
    "3 pixels on 2000 x 2000": Scene(size=(2000, 2000), tall=0.5, pen=3, light=(1, 1, 1, 1), noise=0, quality=100),
    "a fine pen": Scene(pen=0.02),
    "a marker": Scene(pen=0.15),
    "small": Scene(tall=0.1),
    "large": Scene(tall=0.85),
    "in a corner": Scene(tall=0.25, place=(0.2, 0.8)),
    "steep light": Scene(light=(1.0, 0.6, 0.65, 0.3)),
    "a lamp": Scene(light=(0.5, 0.5, 0.5, 0.5), lamp=0.45),
    "a shadow": Scene(shadow=0.45),
    "dim": Scene(light=(0.35, 0.3, 0.3, 0.25)),
    "pencil": Scene(ink=0.55),
    "noisy": Scene(noise=0.08),
    "turned left": Scene(turn=8),
    "turned right": Scene(turn=-8),
    "chalk": Scene(paper=0.2, ink=0.85),
    "upright": Scene(size=(1200, 1600), quality=60),
    "lined paper": Scene(lined=0.4),
    "squared paper": Scene(lined=0.25, squared=True),
    "small on squared paper": Scene(tall=0.15, lined=0.5, squared=True),
    "lined, aslant": Scene(lined=0.35, aslant=3, printed=0.5),
    "squared, aslant": Scene(lined=0.3, squared=True, aslant=-4),
    "pencil on squares": Scene(ink=0.4, lined=0.3, squared=True, printed=0.7),
}


def photograph(digits: list[Floats], scene: Scene, seed: int = 0) -> bytes:
    """The digits (28, 28), side by side where there are several, as a JPEG file."""
    width, height = scene.size
    covered = np.zeros((height, width), np.float32)
    tall = scene.tall * height
    for at, digit in enumerate(digits):
        shift = (at - (len(digits) - 1) / 2) * 1.1 * tall
        middle = (scene.place[0] * width + shift, scene.place[1] * height)
        covered = np.maximum(covered, _drawn(digit, scene, middle))
    paper = scene.paper + (scene.printed - scene.paper) * _lines(scene)
    seen = (paper + (scene.ink - paper) * covered) * _light(scene)
    random = np.random.default_rng(seed)
    tile = random.normal(0, scene.noise, (509, 521)).astype(np.float32)
    seen += np.tile(tile, (-(-height // 509), -(-width // 521)))[:height, :width]
    stream = io.BytesIO()
    Image.fromarray((seen.clip(0, 1) * 255 + 0.5).astype(np.uint8)).save(stream, "JPEG", quality=scene.quality)
    return stream.getvalue()


def _drawn(digit: Floats, scene: Scene, middle: tuple[float, float]) -> Floats:
    """(height, width) how much of each pixel is covered by ink."""
    lines = pen_lines(digit)
    low, high = lines.reshape(-1, 2).min(0), lines.reshape(-1, 2).max(0)
    tall = scene.tall * scene.size[1]
    centred = (lines - (low + high) / 2) * (tall / max(1, (high - low)[1]))
    turn = np.deg2rad(scene.turn)
    across = centred[..., 0] * np.cos(turn) + centred[..., 1] * np.sin(turn) + middle[0]
    down = centred[..., 1] * np.cos(turn) - centred[..., 0] * np.sin(turn) + middle[1]
    pen = scene.pen if scene.pen >= 1 else scene.pen * tall
    canvas = Image.new("L", scene.size)
    draw = ImageDraw.Draw(canvas)
    for (x0, x1), (y0, y1) in zip(across.tolist(), down.tolist(), strict=True):
        draw.line((x0, y0, x1, y1), 255, max(1, round(pen)))
        for x, y in ((x0, y0), (x1, y1)):
            draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 255)
    return (np.asarray(canvas) / 255).astype(np.float32)


def _lines(scene: Scene) -> Floats:
    """(height, width), or 0: how much of each pixel is covered by lines a twentieth of their distance wide."""
    if not scene.lined:
        return np.zeros((1, 1), np.float32)
    width, height = scene.size
    apart, turn = scene.lined * scene.tall * height, np.deg2rad(scene.aslant)
    down, across = np.mgrid[:height, :width].astype(np.float32)
    ways = [down * np.cos(turn) + across * np.sin(turn)]
    if scene.squared:
        ways.append(across * np.cos(turn) - down * np.sin(turn))
    half = max(0.75, apart / 40)
    off = [np.abs((way + apart / 3) % apart - apart / 2) for way in ways]
    return np.asarray(np.max([(half + 0.5 - one).clip(0, 1) for one in off], axis=0), np.float32)


def _light(scene: Scene) -> Floats:
    width, height = scene.size
    across, down = np.linspace(0, 1, width), np.linspace(0, 1, height)[:, None]
    a, b, c, d = scene.light
    light = (a * (1 - across) + b * across) * (1 - down) + (c * (1 - across) + d * across) * down
    light = light + scene.lamp * np.exp(-((across - 0.35) ** 2 + (down - 0.4) ** 2) / 0.08)
    if scene.shadow:
        light = light * (1 - 0.5 / (1 + np.exp((across + 0.2 * down - scene.shadow) / 0.01)))
    return light.astype(np.float32)


def pen_lines(digit: Floats) -> Floats:
    """(n, 2, 2): pieces of line as ends (across, down), along the middle of the strokes of (28, 28) ink."""
    image = Image.fromarray(digit.astype(np.uint8)).resize((28 * ENLARGED,) * 2, Image.Resampling.BICUBIC)
    thin = _thinned(np.asarray(image) > 127)
    rows, columns = np.nonzero(thin)
    number = np.full(thin.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    places = np.stack([columns, rows], 1).astype(np.float32)
    joined = [(at, at) for at in range(len(rows))]
    for down, across in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = number[rows + down, columns + across]  # the rim of a digit is empty
        joined += [(at, int(to)) for at, to in enumerate(other) if to >= 0]
    return np.asarray(places[np.array(joined)])


def _thinned(ink: Bits) -> Bits:
    """The middle of the strokes, by Zhang and Suen (1984)."""
    ink = np.pad(ink, 1)
    while True:
        before = ink.copy()
        for odd in (0, 1):
            around = [
                np.roll(ink, shift, (0, 1))
                for shift in ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
            ]  # clockwise from above
            count = np.sum(around, 0)
            turns = np.sum([~one & other for one, other in zip(around, around[1:] + around[:1], strict=True)], 0)
            up, right, below, left = around[0], around[2], around[4], around[6]
            free = ~(up & right & below if odd == 0 else up & right & left)
            free &= ~(right & below & left if odd == 0 else up & below & left)
            ink = ink & ~((count >= 2) & (count <= 6) & (turns == 1) & free)
        if np.array_equal(ink, before):
            return ink[1:-1, 1:-1]
