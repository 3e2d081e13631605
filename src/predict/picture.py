"""Any picture as bytes of a model's shape. For 28 x 28 grey pixels a digit is prepared as MNIST's were: cropped,
fitted into 20 x 20, centred by mass in 28 x 28.

Source of that preparation: http://yann.lecun.com/exdb/mnist. report.html does the same in the reader's browser.
"""

import io
import math
import os
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

DATA = ("mnist", "digits")  # data sets of digits that were prepared this way
THINGS = ("fashion_mnist",)  # 28 x 28 pixels of things: no strokes are looked for
PREPARATION = "light on dark, 20 x 20 box, centred by mass in 28 x 28"
SIDE, BOX = 28, 20
LARGEST = 40_000_000  # pixels
WORKING = 400  # pixels of the longer side that the preparation looks at
EDGE = 0.15  # ink below this share of the darkest is not a part of the digit's box
TIE = 1e-6  # halves round up, in whatever order the sum before them was made: torch's and the page's differ
EVEN = 0.06  # a border that varies less is drawn, not photographed


class BadInput(ValueError):
    """No input can be made of a file; the message names it and the reason."""


@dataclass(frozen=True)
class Prepared:
    """pixels (28, 28) uint8, light on dark as MNIST has them; `description` says what the picture was, `doubt` what
    speaks against the reading, or "".
    """

    pixels: Tensor
    description: str
    doubt: str = ""


def fits(shape: tuple[int, ...]) -> bool:
    """Whether MNIST's preparation makes inputs of this shape."""
    return shape in ((SIDE, SIDE), (1, SIDE, SIDE))


def resized(name: str, data: bytes, shape: tuple[int, ...]) -> Tensor:
    """An image file's bytes as a uint8 tensor of `shape`, grey (height, width) or colour (3, height, width).

    As a folder of pictures is converted: a training picture has the same pixels here. Raises BadInput.
    """
    from src.data import pixels

    try:
        with pixels.quiet():
            found = pixels.read(io.BytesIO(data), len(shape) == 3 and shape[0] == 3, (shape[-1], shape[-2]))
    except pixels.BadPicture as error:
        raise BadInput(f"{name}: {error}") from None
    return torch.from_numpy(found.copy()).reshape(shape)


def read(name: str, data: bytes, handwritten: bool = True) -> Prepared:
    """Prepare an image file's bytes, of any format that Pillow reads: a drawing, or a photograph of one thing.

    Of what is `handwritten` the strokes are looked for. Raises BadInput.
    """
    from src.predict import photograph  # only here: Pillow comes with it, and a report of a drawing needs none

    image = _opened(name, data, "L")
    drawn = _pixels(image, WORKING)
    if _is_ready(drawn) or not handwritten:
        return prepare(drawn, name)
    border, strokes = _border(drawn), photograph.find(_pixels(image, photograph.WORKING).numpy())
    is_drawing = float(border.max() - border.min()) <= EVEN
    if is_drawing and (strokes is None or (strokes.alone and not strokes.thin)):
        return replace(prepare(drawn, name), doubt=strokes.doubt if strokes else "")
    if strokes is None:
        raise BadInput(f"{name}: no ink stands out from the paper")
    description = "light on dark" if strokes.light else "dark on light"
    description += ("" if is_drawing else ", a photograph") + (", strokes widened" if strokes.thin else "")
    description += ", without the lines of the paper" if strokes.is_ruled else ""
    return Prepared(_bytes(centred(torch.from_numpy(strokes.ink))), description, strokes.doubt)


def prepare(grey: Tensor, name: str = "picture") -> Prepared:
    """Prepare a drawing (height, width) float in [0, 1]; its border is paper. Raises BadInput."""
    border = _border(grey)
    background = border.median()
    light_on_dark = bool(background < 0.5)
    description = "light on dark" if light_on_dark else "dark on light"
    ink = grey if light_on_dark else 1 - grey
    if _is_ready(grey):
        return Prepared(_bytes(ink), f"{description}, prepared already")
    ink = (ink - border.median() if light_on_dark else ink - (1 - background)).clamp(min=0)
    if float(ink.max()) < 0.05:
        raise BadInput(f"{name}: is empty: one colour all over")
    return Prepared(_bytes(centred(ink / ink.max())), description)


def _border(grey: Tensor) -> Tensor:
    return torch.cat([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _is_ready(grey: Tensor) -> bool:
    """Whether a picture is as MNIST has them."""
    border = _border(grey)
    return tuple(grey.shape) == (SIDE, SIDE) and float(border.median()) < 0.5 and float(border.mean()) < 0.05


def centred(ink: Tensor) -> Tensor:
    """Ink (height, width) in [0, 1] -> (28, 28) in [0, 1]: its box fitted into 20 x 20, its mass in the middle."""
    inked = ink > EDGE
    rows, columns = inked.any(1).nonzero().flatten(), inked.any(0).nonzero().flatten()
    box = ink[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1]
    scale = BOX / max(box.shape)
    height, width = (max(1, math.floor(side * scale + 0.5)) for side in box.shape)
    small = _shares(box.shape[0], height) @ box.double() @ _shares(box.shape[1], width).T
    mass = small.sum()
    top = _place(float((small.sum(1) * torch.arange(height)).sum() / mass), height)
    left = _place(float((small.sum(0) * torch.arange(width)).sum() / mass), width)
    canvas = torch.zeros(SIDE, SIDE, dtype=torch.float64)
    canvas[top : top + height, left : left + width] = small
    return canvas.clamp(max=1)


def _place(centre: float, length: int) -> int:
    """Where a side must start so that its centre of mass is at pixel 14, MNIST's middle, and all of it inside."""
    return min(max(math.floor(SIDE / 2 - centre + 0.5 + TIE), 0), SIDE - length)


def _shares(source: int, target: int) -> Tensor:
    """(target, source): which share of each source pixel a target pixel averages; rows add up to 1."""
    edges = torch.arange(target + 1, dtype=torch.float64) * source / target
    starts = torch.arange(source, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], starts + 1) - torch.maximum(edges[:-1, None], starts)
    return overlap.clamp(min=0) * target / source


def _bytes(ink: Tensor) -> Tensor:
    return (ink * 255 + 0.5 + TIE).floor().clamp(0, 255).to(torch.uint8)


def _pixels(image: Any, longer: int) -> Tensor:
    """(height, width) float in [0, 1], the longer side at most `longer`."""
    if max(image.size) > longer:
        image = image.reduce(-(-max(image.size) // longer))
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(image.height, image.width).float() / 255


def _opened(name: str, data: bytes, mode: str) -> Any:
    """Pillow's image in mode "L" or "RGB", upright and opaque. Raises BadInput."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not data:
        raise BadInput(f"{name}: is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the size is looked at below
            image: Any = Image.open(io.BytesIO(data))
            if image.width * image.height > LARGEST:
                raise BadInput(f"{name}: {image.width} x {image.height} pixels; make it smaller than 40 megapixels")
            image = _opaque(_eight_bits(ImageOps.exif_transpose(image))).convert(mode)
    except BadInput:
        raise
    except UnidentifiedImageError:
        raise BadInput(f"{name}: is no image that Pillow can read") from None
    except Image.DecompressionBombError:
        raise BadInput(f"{name}: has too many pixels; make it smaller than 40 megapixels") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(f"{name}: is damaged ({error})") from None
    if min(image.size) == 0:
        raise BadInput(f"{name}: has no pixels")
    return image


def _eight_bits(image: Any) -> Any:
    """Pictures of 16 bits, of integers or of fractions, brought to 0..255: Pillow would cut them off there."""
    if not image.mode.startswith(("I", "F")):
        return image
    wide = image.convert("F")
    largest = float(wide.getextrema()[1])
    white = next((white for white in (1, 255, 65535) if largest <= white), largest)
    return wide.point(lambda value: value * (255 / white) + 0)


def _opaque(image: Any) -> Any:
    """Transparency laid on white, or on black where white would swallow all there is."""
    from PIL import Image

    if "A" not in image.getbands() and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    on = {colour: Image.alpha_composite(Image.new("RGBA", image.size, colour), image) for colour in ("white", "black")}
    low, high = cast(tuple[int, int], on["white"].convert("L").getextrema())
    return on["white"] if high - low > 12 else on["black"]


def files(name: str) -> list[Path]:
    """The files that a command line's word means: a file, all of a folder, or a pattern."""
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if any(letter in name for letter in "*?[") and not path.exists():
        return sorted(Path(path.anchor or ".").glob(str(path.relative_to(path.anchor) if path.anchor else path)))
    return [path]
