"""`python -m src.predict`: its output, and a message for every file that it cannot read."""

import io
import json
import os
import zipfile
from pathlib import Path

from PIL import Image, ImageOps

from tests.helpers.commands import command
from tests.helpers.images import encoded


def packed() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", "b")
    return stream.getvalue()


def test_the_printed_prediction(best: Path, tmp_path: Path) -> None:
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
    assert json.loads(row)["class"] == 1
    assert len(command("src.predict", str(best), f"{tmp_path}/*.png").stdout.splitlines()) == 1


def test_it_prints_whose_weights_classify(best: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.new("L", (30, 30), 255).crop((0, 0, 20, 10))))
    done = command("src.predict", str(best), str(tmp_path))
    assert done.stderr.splitlines()[0] == f"weights of {best}/checkpoints/best.pt"
    assert "weights of" not in command("src.predict", str(best), str(tmp_path), "--json").stderr


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


def test_unusual_file_names_and_files(best: Path, tmp_path: Path) -> None:
    good = encoded(ImageOps.pad(Image.new("L", (10, 40), 255), (60, 60)))
    (tmp_path / os.fsdecode(b"a\xff.png")).write_bytes(good)
    (tmp_path / "[b].png").write_bytes(good)
    arguments = (str(tmp_path), str(tmp_path / "[b].png"), "x" * 300, "/dev/zero", "--json")
    done = command("src.predict", str(best), *arguments)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1, done.stderr
    assert [Path(row["file"]).name for row in rows[:3]] == ["[b].png", "a\\xff.png", "[b].png"]
    assert [row.get("class") for row in rows[:3]] == [1, 1, 1]
    assert rows[3]["error"].endswith("File name too long)")
    assert rows[4]["error"] == "/dev/zero: is larger than 200 MB; make it smaller"
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_not_an_error(best: Path, tmp_path: Path) -> None:
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
