"""--show: the picture that the model saw."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from src.errors import UserError
from src.predict.show import Show
from tests.helpers.commands import command
from tests.helpers.images import encoded


def stroke(file: Path) -> Path:
    image = Image.new("L", (100, 100))
    image.paste(255, (45, 10, 55, 90))
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(encoded(image))
    return file


def test_one_picture_into_a_file_and_several_into_a_folder(best: Path, tmp_path: Path) -> None:
    one, two = stroke(tmp_path / "a" / "x.png"), stroke(tmp_path / "b" / "x.png")
    done = command("src.predict", str(best), str(one), "--show", str(tmp_path / "out.png"))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out.png") as seen:
        assert (seen.size, seen.mode) == ((28, 28), "L")
        assert seen.getpixel((14, 14)) == 255
    done = command("src.predict", str(best), str(one), str(two), "-", "--show", str(tmp_path / "seen"), stdin=b"")
    assert done.returncode == 1
    assert sorted(file.name for file in (tmp_path / "seen").iterdir()) == ["x-2.png", "x.png"]


def test_nothing_that_is_read_is_overwritten(best: Path, tmp_path: Path) -> None:
    one, two = stroke(tmp_path / "x.png"), stroke(tmp_path / "y.png")
    before = one.read_bytes()
    for where in (tmp_path, one):
        done = command("src.predict", str(best), str(one), "--show", str(where))
        assert (done.returncode, done.stdout) == (2, "")
        assert f"error: --show {where}: {one} is one of the files that are read; name another" in done.stderr
    done = command("src.predict", str(best), str(one), str(two), "--show", str(tmp_path / "z.png"))
    assert done.stderr == f"error: --show {tmp_path}/z.png: 2 files, and one picture; name a folder\n"
    assert one.read_bytes() == before


def test_colours_and_other_numbers(tmp_path: Path) -> None:
    colours = torch.zeros(1, 3, 4, 5, dtype=torch.uint8)
    colours[0, 1] = 200
    Show(tmp_path / "a.png", ["x"], (3, 4, 5)).write("x", colours)
    with Image.open(tmp_path / "a.png") as seen:
        assert (seen.size, seen.mode, seen.getpixel((0, 0))) == ((5, 4), "RGB", (0, 200, 0))
    Show(tmp_path / "b.png", ["x"], (1, 4, 5)).write("x", torch.linspace(-1, 1, 20).view(1, 1, 4, 5))
    with Image.open(tmp_path / "b.png") as seen:
        assert seen.getextrema() == (0, 255)


def test_what_is_no_picture_or_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--show a.png: inputs of shape \(8,\) are no picture; leave it out$"):
        Show(Path("a.png"), ["x"], (8,))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/x: cannot be written \(.*file is a file, not a folder"):
        Show(tmp_path / "file" / "x", ["x"], (4, 5)).write("x", torch.zeros(1, 4, 5, dtype=torch.uint8))
