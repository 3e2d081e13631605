"""What stands out of the paper, in any light."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from src.predict import paper

SIZE = 240


def lit(light: NDArray[Any], ink: float, sheet: float = 0.9) -> np.ndarray:
    """A stroke of `ink` on a sheet, in a light."""
    picture = np.full((SIZE, SIZE), sheet)
    picture[60:180, 100:112] = ink
    return np.asarray(picture * light, np.float32)


def lights() -> dict[str, NDArray[Any]]:
    down, across = np.mgrid[0:1:240j, 0:1:240j]
    return {
        "even": np.ones((SIZE, SIZE)),
        "aslant": 1 - 0.4 * across - 0.25 * down,
        "a lamp": 0.5 + 0.4 * np.exp(-((across - 0.3) ** 2 + (down - 0.4) ** 2) / 0.1),
        "a shadow": np.where(across + 0.2 * down < 0.7, 0.5, 1.0),
    }


@pytest.mark.parametrize("name", lights())
@pytest.mark.parametrize(("ink", "sheet"), [(0.15, 0.9), (0.85, 0.2)])
def test_the_stroke_stands_out_and_the_paper_does_not(name: str, ink: float, sheet: float) -> None:
    contrast, light = paper.contrast(lit(lights()[name], ink, sheet))
    assert light == (ink > sheet)
    stroke = contrast[70:170, 102:110]
    assert stroke.min() > 0.5
    assert np.median(contrast) == 0
    inner = np.ones((SIZE, SIZE), bool)
    inner[:, 96:116] = False
    if name == "a shadow":
        inner &= np.abs(np.mgrid[0:1:240j, 0:1:240j][1] + 0.2 * np.mgrid[0:1:240j, 0:1:240j][0] - 0.7) > 0.03
    assert np.quantile(contrast[inner], 0.99) < 0.35 * stroke.min()  # ink begins at about a third of the strongest


def test_the_size_of_a_picture() -> None:
    values = np.arange(80 * 40, dtype=np.float32).reshape(80, 40)
    assert paper.resized(values, 100) is values
    small = paper.resized(values, 8)
    assert small.shape == (8, 4)
    assert np.isclose(small[0, 0], values[:10, :10].mean())
    assert paper.resized(small, 80, values.shape).shape == values.shape
