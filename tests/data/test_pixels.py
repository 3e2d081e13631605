"""A picture's file as pixels: every mode that a camera, a scanner or a web page leaves behind."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.data import pixels
from src.data.pixels import BadPicture
from tests.helpers.images import encoded

RED = np.array([255, 0, 0], np.uint8)


def read(
    image: Any, kind: str = "PNG", colour: bool = True, size: tuple[int, int] | None = None, **options: Any
) -> Any:
    return pixels.read(io.BytesIO(encoded(image, kind, **options)), colour, size)


def test_sixteen_bits_are_scaled_not_cut_off() -> None:
    image = Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256))
    assert pixels.header(io.BytesIO(encoded(image))) == (True, (256, 256))
    found = read(image, colour=False)
    assert found.shape == (256, 256)
    assert (int(found[0, 0]), int(found[128, 0]), int(found[255, 255])) == (0, 128, 255)
    with pytest.raises(BadPicture, match="32 bits: save it with 8 or 16"):
        read(Image.new("F", (4, 4)), "TIFF", colour=False)


@pytest.mark.parametrize(
    ("image", "kind", "options", "grey", "pixel"),
    [
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF", {}, False, (255, 0, 0)),
        (Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG", {}, False, (255, 255, 255)),
        (Image.new("RGBA", (4, 4), (0, 0, 0, 255)), "PNG", {}, False, (0, 0, 0)),
        (Image.new("LA", (4, 4), (0, 0)), "PNG", {}, True, (255, 255, 255)),
        (Image.new("1", (4, 4), 1), "PNG", {}, True, (255, 255, 255)),
        (Image.new("L", (4, 4), 7), "PNG", {}, True, (7, 7, 7)),
        (Image.new("RGB", (4, 4), "red").quantize(2), "PNG", {}, False, (255, 0, 0)),
        (Image.new("RGB", (4, 4), "red").quantize(2), "PNG", {"transparency": 0}, False, (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(image: Any, kind: str, options: Any, grey: bool, pixel: tuple[int, ...]) -> None:
    assert pixels.header(io.BytesIO(encoded(image, kind, **options)))[0] == grey
    assert tuple(read(image, kind, **options)[:, 2, 2]) == pixel


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_is_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[pixels.ORIENTATION] = 6
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (0, 0, 20, 20))  # what is left as stored is above when it is upright
    data = encoded(image, kind, exif=exif, quality=95)
    assert pixels.header(io.BytesIO(data))[1] == (20, 40)
    found = pixels.read(io.BytesIO(data), True, None)
    assert found.shape == (3, 40, 20)
    assert found[2, 4, 10] > 200 > 50 > found[2, 35, 10]


def test_another_size_is_filled_and_its_middle_kept() -> None:
    image = Image.new("RGB", (90, 30), "blue")
    image.paste("red", (30, 0, 60, 30))
    found = read(image, size=(10, 10))
    assert found.shape == (3, 10, 10)
    assert (found[:, :, 1:9] == RED[:, None, None]).all()
    assert read(image, "JPEG", size=(5, 7)).shape == (3, 7, 5)


def test_the_wanted_size_changes_nothing() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert (read(Image.fromarray(noise), size=(8, 8)) == noise.transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"text", "is no image that Pillow can read"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:600], "is damaged"),
        (encoded(Image.effect_noise((64, 64), 50))[:600], "is damaged"),
        (encoded(Image.new("1", (60_000, 6_000))), "has more than 178 million pixels"),
    ],
)
def test_what_is_no_picture_says_why(data: bytes, reason: str) -> None:
    with pixels.quiet(), pytest.raises(BadPicture, match=reason):
        pixels.read(io.BytesIO(data), True, None)


def test_damaged_exif_costs_nothing() -> None:
    data = encoded(Image.new("RGB", (8, 8), "red"), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    with pixels.quiet():
        assert pixels.read(io.BytesIO(data), True, None).shape == (3, 8, 8)
