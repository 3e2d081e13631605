"""A picture's file as pixels: the one way there, for the conversion of a data set and for what is predicted later.

The picture is turned upright (EXIF), laid on white where it is transparent, brought to 8 bits (16 are scaled, not cut
off), made grey or RGB, and, where another size is wanted, scaled until it fills that size; the middle is kept.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Source = Path | BinaryIO
Size = tuple[int, int]  # width, height

GREY = ("1", "L", "LA", "La", "I", "F")  # and the many of 16 bits, which begin with I
SIXTEEN_BITS = 65535
ORIENTATION, SIDEWAYS = 0x0112, range(5, 9)  # EXIF's tag, and the values that swap width and height


class BadPicture(ValueError):
    """A file that no pixels can be made of; the message says why, without the file's name."""


def header(source: Source) -> tuple[bool, Size]:
    """(whether the picture is grey, its size when it is upright), as far as its header says.

    Raises BadPicture, and OSError where the file cannot be read.
    """
    with _opened(source) as image:
        width, height = image.size
        is_grey = image.mode in GREY or image.mode.startswith("I;")
        if "exif" in image.info and image.getexif().get(ORIENTATION) in SIDEWAYS:
            width, height = height, width
    return is_grey, (width, height)


def read(source: Source, colour: bool, size: Size | None) -> NDArray[np.uint8]:
    """(height, width) grey or (3, height, width) RGB, uint8, in the wanted size or in its own.

    Raises BadPicture, and OSError where the file cannot be read.
    """
    with _opened(source) as image:
        if size:
            image.draft(None, (2 * size[0], 2 * size[1]))  # a JPEG is decoded at a half, a quarter or an eighth
        image.load()
        with suppress(Exception):  # damaged EXIF: the pixels are whole
            ImageOps.exif_transpose(image, in_place=True)
        plain = _opaque(_eight_bits(image)).convert("RGB" if colour else "L")
        if size and plain.size != size:
            plain = ImageOps.fit(plain, size, Image.Resampling.BILINEAR)
    pixels = np.asarray(plain)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if colour else pixels


@contextmanager
def quiet() -> Iterator[None]:
    """Around reading many pictures: Pillow's warnings about what it puts up with are not printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _opened(source: Source) -> Iterator[Image.Image]:
    """Pillow's image; a file that is none is BadPicture. Raises OSError where the disk, not the picture, fails."""
    try:
        with Image.open(source) as image:
            if min(image.size) == 0:
                raise BadPicture("has no pixels")
            yield image
    except BadPicture:
        raise
    except UnidentifiedImageError:
        raise BadPicture("is empty (0 bytes)" if _is_empty(source) else "is no image that Pillow can read") from None
    except Image.DecompressionBombError:
        raise BadPicture("has more than 178 million pixels") from None
    except OSError as error:
        if error.errno:
            raise
        raise BadPicture(f"is damaged ({error})") from None
    except (ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise BadPicture(f"is damaged ({error})") from None


def _is_empty(source: Source) -> bool:
    return source.stat().st_size == 0 if isinstance(source, Path) else source.seek(0, 2) == 0


def _eight_bits(image: Image.Image) -> Image.Image:
    """Pictures of 16 bits scaled to 8, which Pillow would cut off at 255. Raises BadPicture for wider ones."""
    if not image.mode.startswith(("I", "F")):
        return image
    wide = np.asarray(image).astype(np.float64)
    if image.mode == "F" or wide.min() < 0 or wide.max() > SIXTEEN_BITS:
        raise BadPicture("has pixels of 32 bits: save it with 8 or 16 bits")
    return Image.fromarray((wide * (255 / SIXTEEN_BITS) + 0.5).astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    """Transparency laid on white."""
    if "A" not in image.getbands() and "a" not in image.getbands() and "transparency" not in image.info:
        return image
    if image.mode == "La":
        image = image.convert("LA")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
