"""The paper of a picture: its light, and what stands out of it.

Light that falls aslant is a plane, which is divided out. What is left (lamps, shadows) is a closing of the picture: the
brightest around each place, and the darkest of that, which fills all that is narrower than the window, as strokes are.
Light ink on dark paper is the other way around, an opening.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COARSE = 250  # pixels of the longer side, on which light is looked at
WINDOW = 0.3  # of the longer side: the closing's window, wider than a stroke

Floats = NDArray[np.float32]
Bits = NDArray[np.bool_]


def contrast(grey: Floats, opposite: bool = False) -> tuple[Floats, bool]:
    """(how far each pixel stands out of the paper around it, about 0 on paper; whether ink is the lighter one).

    `opposite`: as if ink were what paper seems to be, where that is more than half of its surroundings.
    """
    even = grey / _light(grey)
    light = _is_light(even) != opposite
    around = resized(even, COARSE)
    window = max(3, int(max(around.shape) * WINDOW)) | 1
    for extreme in (_lowest, _highest) if light else (_highest, _lowest):
        around = extreme(around, window)
    around = resized(around, max(grey.shape), grey.shape)
    apart = (even - around) if light else 1 - even / np.maximum(around, 1e-3)
    return apart - np.median(apart), light


def _light(grey: Floats) -> Floats:
    """The light on the paper as a plane, through what is not far from it: a closing cuts a slope's corners off."""
    small = resized(grey, 64)
    terms, values = _terms(small.shape), small.ravel()
    kept = np.ones(len(values), bool)
    for _ in range(8):
        factors = np.linalg.lstsq(terms[kept], values[kept], rcond=None)[0]
        apart = np.abs(values - terms @ factors)
        kept = apart <= max(2.5 * float(np.median(apart)), 1e-3)
    surface = (_terms(grey.shape) @ factors).reshape(grey.shape)
    return np.maximum(surface, 0.05).astype(np.float32)


def _terms(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(pixels, 3): 1, x, y, from -1 to 1."""
    y, x = (axis.ravel() for axis in np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij"))
    return np.stack([np.ones_like(x), x, y], 1)


def _is_light(even: Floats) -> bool:
    """Whether what differs most from the median of the window around it is lighter."""
    small = resized(even, COARSE)
    reach, every = max(1, int(max(small.shape) * WINDOW) // 2), max(1, max(small.shape) // 50)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(small, reach, "symmetric"), (2 * reach + 1,) * 2)
    medians = np.median(around[::every, ::every, ::every, ::every], (2, 3)).astype(np.float32)
    apart = even - resized(medians, max(even.shape), even.shape)
    apart -= np.median(apart)
    apart[np.abs(apart) < 4 * np.median(np.abs(apart))] = 0
    return bool((apart.astype(np.float64) ** 3).sum() > 0)


def _highest(values: Floats, window: int) -> Floats:
    """The largest of the window x window values around each."""
    for axis in (0, 1):
        padded = np.pad(values, [(window // 2, window // 2) if at == axis else (0, 0) for at in (0, 1)], "edge")
        values = np.lib.stride_tricks.sliding_window_view(padded, window, axis).max(-1)
    return values


def _lowest(values: Floats, window: int) -> Floats:
    return -_highest(-values, window)


def resized(values: Floats, longer: int, shape: tuple[int, ...] | None = None) -> Floats:
    """The picture with `longer` pixels on its longer side, averaged; or in `shape`, interpolated."""
    if shape is None and max(values.shape) <= longer:
        return values
    scale = longer / max(values.shape)
    size = (shape[1], shape[0]) if shape else tuple(max(1, round(side * scale)) for side in values.shape[::-1])
    how = Image.Resampling.BILINEAR if shape else Image.Resampling.BOX
    return np.asarray(Image.fromarray(values).resize(size, how))
