"""Images of any size and format are prepared as MNIST's are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps

from src.predict import picture
from src.run import trained
from tests.helpers.images import encoded


def paper(image: Any) -> Any:
    """A photograph of the digit in dark ink on shaded, grainy paper."""
    random = torch.Generator().manual_seed(0)
    pixels = bytearray(ImageOps.pad(image, (200, 260), Image.Resampling.BICUBIC).tobytes())
    large = torch.frombuffer(pixels, dtype=torch.uint8).view(260, 200)
    shade = torch.linspace(0.95, 0.6, 200) * torch.linspace(1, 0.85, 260)[:, None]
    grain = 0.015 * torch.randn(260, 200, generator=random)
    values = ((shade * (1 - 0.8 * large / 255) + grain).clamp(0, 1) * 255).to(torch.uint8)
    return Image.frombytes("L", (200, 260), values.numpy().tobytes())


def moved(image: Any) -> Any:
    canvas = Image.new("L", (300, 200))
    canvas.paste(image.resize((112, 112), Image.Resampling.BICUBIC), (150, 20))
    return canvas


def deep(image: Any) -> Any:
    """16 bits a pixel."""
    wide = image.resize((140, 140), Image.Resampling.BICUBIC)
    return Image.frombytes("I;16", wide.size, b"".join(bytes((value, value)) for value in wide.tobytes()))


def turned(image: Any) -> bytes:
    """Rotated, with the orientation in its EXIF data, as phones save photos."""
    note = Image.Exif()
    note[0x0112] = 6
    large = ImageOps.invert(image.resize((280, 280), Image.Resampling.BICUBIC))
    return encoded(large.rotate(90).convert("RGB"), "JPEG", exif=note)


def film(image: Any) -> bytes:
    large = image.resize((84, 84), Image.Resampling.BICUBIC)
    return encoded(large, "GIF", save_all=True, append_images=[ImageOps.invert(large).rotate(90)])


def see_through(image: Any) -> Any:
    large = image.resize((140, 140), Image.Resampling.BICUBIC)
    black = Image.new("RGBA", large.size, (0, 0, 0, 0))
    black.putalpha(large)
    return black


VARIANTS: dict[str, Callable[[Any], bytes]] = {
    "as it is": encoded,
    "enlarged": lambda image: encoded(image.resize((280, 280), Image.Resampling.BICUBIC)),
    "inverted": lambda image: encoded(ImageOps.invert(image)),
    "large and inverted": lambda image: encoded(ImageOps.invert(image.resize((600, 600), Image.Resampling.BICUBIC))),
    "off centre": lambda image: encoded(moved(image)),
    "JPEG": lambda image: encoded(image.resize((280, 280)).convert("RGB"), "JPEG", quality=80),
    "RGBA": lambda image: encoded(see_through(image)),
    "16 bits": lambda image: encoded(deep(image)),
    "16 bits, inverted": lambda image: encoded(deep(ImageOps.invert(image))),
    "fractions": lambda image: encoded(image.convert("F").point(lambda value: value * (1 / 255) + 0), "TIFF"),
    "CMYK": lambda image: encoded(ImageOps.invert(image.resize((280, 280))).convert("CMYK"), "JPEG"),
    "lying": turned,
    "moving": film,
    "transparent palette": lambda image: encoded(ImageOps.invert(image).convert("P"), transparency=255),
    "GIF": lambda image: encoded(image.resize((84, 84), Image.Resampling.BICUBIC).convert("P"), "GIF"),
}


PICTURES = 80  # of the test set, for each variant


@pytest.mark.parametrize(("variant", "least"), [*((name, 0.95) for name in VARIANTS), ("on paper", 0.85)])
def test_pictures_agree_with_evaluate(variant: str, least: float, best: Path) -> None:
    run = trained.load(best)
    test = trained.test_of(run).test
    guesses = run.module(test.inputs[:PICTURES]).argmax(1)
    right = (guesses == test.targets[:PICTURES]).nonzero().flatten().tolist()
    make = VARIANTS.get(variant, lambda image: encoded(paper(image)))
    agreed = 0
    for index in right:
        image = Image.frombytes("L", (28, 28), bytes(test.inputs[index].flatten().tolist()))
        prepared = picture.read("x", make(image))
        agreed += int(run.module(prepared.pixels[None]).argmax()) == int(test.targets[index])
    assert agreed >= least * len(right), f"{agreed} of {len(right)}"


def test_mnist_images_are_unchanged_by_the_preparation(best: Path) -> None:
    test = trained.test_of(trained.load(best)).test
    for index in range(100):
        prepared = picture.read(
            "x", VARIANTS["as it is"](Image.frombytes("L", (28, 28), bytes(test.inputs[index].flatten())))
        )
        assert torch.equal(prepared.pixels, test.inputs[index])
