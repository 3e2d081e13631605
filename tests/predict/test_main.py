"""Any picture of a digit: prepared as MNIST's, and named when it cannot be."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps

from src.data import dataset as data
from src.evaluation import predict
from src.predict import picture
from src.run import trained
from tests.helpers.commands import command


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


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


def packed() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", "b")
    return stream.getvalue()


def deep(image: Any) -> Any:
    """16 bits a pixel."""
    wide = image.resize((140, 140), Image.Resampling.BICUBIC)
    return Image.frombytes("I;16", wide.size, b"".join(bytes((value, value)) for value in wide.tobytes()))


def turned(image: Any) -> bytes:
    """As a telephone saves it: lying, with a note which way is up."""
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


PICTURES = 120  # of the test set, in each variant


@pytest.mark.parametrize(("variant", "least"), [*((name, 0.95) for name in VARIANTS), ("on paper", 0.85)])
def test_pictures_agree_with_evaluate(variant: str, least: float, best: Path) -> None:
    run = trained.load(best)
    test = data._split(data.folder(run.settings.data), *data.TEST)
    right = (
        (predict(run.module, test.images[:PICTURES]).argmax(1) == test.labels[:PICTURES]).nonzero().flatten().tolist()
    )
    make = VARIANTS.get(variant, lambda image: encoded(paper(image)))
    agreed = 0
    for index in right:
        image = Image.frombytes("L", (28, 28), bytes(test.images[index].tolist()))
        prepared = picture.read("x", make(image))
        agreed += int(predict(run.module, prepared.pixels.view(1, -1)).argmax()) == int(test.labels[index])
    assert agreed >= least * len(right), f"{agreed} of {len(right)}"


def test_mnist_s_own_pictures_stay_as_they_are(best: Path) -> None:
    test = data._split(data.folder(trained.load(best).settings.data), *data.TEST)
    for index in range(100):
        prepared = picture.read("x", VARIANTS["as it is"](Image.frombytes("L", (28, 28), bytes(test.images[index]))))
        assert torch.equal(prepared.pixels.flatten(), test.images[index])


def test_it_says_what_it_took(best: Path, tmp_path: Path) -> None:
    image = Image.new("L", (100, 100))
    image.paste(255, (45, 10, 55, 90))
    (tmp_path / "a.png").write_bytes(encoded(image))
    (tmp_path / "b.jpg").write_bytes(encoded(ImageOps.invert(image), "JPEG"))
    done = command("src.predict", str(best), str(tmp_path))
    first, second = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert first.startswith(f"{tmp_path}/a.png: 1 (")
    assert first.endswith("[light on dark]")
    assert second.endswith("[dark on light]")
    (row,) = command("src.predict", str(best), "-", "--json", stdin=encoded(image)).stdout.splitlines()
    assert json.loads(row)["digit"] == 1
    assert len(command("src.predict", str(best), f"{tmp_path}/*.png").stdout.splitlines()) == 1


def test_bad_pictures_are_named_and_the_others_go_on(best: Path, tmp_path: Path) -> None:
    image = Image.new("L", (60, 60))
    image.paste(255, (28, 5, 33, 55))
    good = encoded(image)
    bad = {
        "text.png": (b"hello", "is no image"),
        "empty.png": (b"", "is empty"),
        "blank.png": (encoded(Image.new("L", (50, 50), 255)), "one colour"),
        "cut.png": (good[: len(good) // 2], "is damaged"),
        "huge.png": (encoded(Image.new("1", (10_000, 5_000))), "huge.png: 10000 x 5000 pixels; make it smaller"),
        "bomb.png": (encoded(Image.new("1", (60_000, 6_000))), "make it smaller than 40 megapixels"),
        "packed.png": (packed(), "is no image"),
        "flat.png": (encoded(Image.new("L", (50, 1))), "one colour"),
    }
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "zgood.png").write_bytes(good)
    (tmp_path / ".hidden").write_bytes(b"of no concern")
    done = command("src.predict", str(best), str(tmp_path), str(tmp_path / "none.png"), str(tmp_path / "*.tif"))
    printed = done.stderr
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    for name, (_, said) in bad.items():
        assert any(name in line and said in line for line in printed.splitlines()), printed
    assert "none.png: cannot be read (No such file" in printed
    assert "*.tif: nothing there" in printed
    assert "Traceback" not in printed
    assert "hidden" not in printed


def test_names_and_files_that_are_odd(best: Path, tmp_path: Path) -> None:
    good = encoded(ImageOps.pad(Image.new("L", (10, 40), 255), (60, 60)))
    (tmp_path / os.fsdecode(b"a\xff.png")).write_bytes(good)
    (tmp_path / "[b].png").write_bytes(good)
    arguments = (str(tmp_path), str(tmp_path / "[b].png"), "x" * 300, "/dev/zero", "--json")
    done = command("src.predict", str(best), *arguments)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1, done.stderr
    assert [Path(row["picture"]).name for row in rows[:3]] == ["[b].png", "a\\xff.png", "[b].png"]
    assert [row.get("digit") for row in rows[:3]] == [1, 1, 1]
    assert rows[3]["error"].endswith("File name too long)")
    assert rows[4]["error"] == "/dev/zero: is larger than 200 MB; make it smaller"
    assert "Traceback" not in done.stderr


def test_the_reader_may_leave(best: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.new("L", (9, 9))))
    reading, writing = os.pipe()
    os.close(reading)
    done = command("src.predict", str(best), "--json", str(tmp_path), stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_run_without_weights_says_so(tmp_path: Path, best: Path) -> None:
    done = command("src.predict", str(tmp_path), "x.png")
    assert done.returncode == 2
    assert "is no run" in done.stderr
    (tmp_path / "config.yaml").write_text((best / "config.yaml").read_text())
    done = command("src.predict", str(tmp_path), "x.png")
    assert done.returncode == 2
    assert "has no weights yet" in done.stderr
