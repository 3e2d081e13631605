"""The chunks of an array: what is found only when a picture is decoded."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from src.data import class_folders, conversion, filling, pixels
from src.data.survey import Broken
from src.errors import UserError
from tests.helpers.picture_folders import draw


def convert(root: Path, result: Path, size: int = 0, shape: Any = None) -> None:
    conversion.convert(class_folders.scan(root), result, size, shape, lambda _: None)


def left(result: Path) -> list[str]:
    """What is beside the result, hidden or not."""
    return sorted(path.name for path in result.parent.iterdir() if path.name not in (result.name, ".lock"))


def test_a_size_that_the_header_hides_is_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw(tmp_path) / "train"
    monkeypatch.setattr(pixels, "header", lambda source: (False, (10, 10)))
    with pytest.raises(UserError, match=r"12 x 12 pixels, .* 10 x 10"):
        convert(root, tmp_path / "out" / "train")
    with pytest.raises(UserError, match="those of the training set 10 x 10"):
        convert(root, tmp_path / "out" / "train", 0, (3, 10, 10))


def test_broken_pictures_are_all_found(tmp_path: Path) -> None:
    root = draw(tmp_path) / "train"
    for name in ("blue/0000.png", "red/0029.png"):
        (root / name).write_bytes((root / name).read_bytes()[:70])
    with pytest.raises(Broken) as broken:
        convert(root, tmp_path / "out" / "train")
    assert list(broken.value.reasons) == [0, 29]
    assert left(tmp_path / "out" / "train") == []
    shutil.rmtree(root / "green")
    shutil.rmtree(root / "red")
    for file in (root / "blue").iterdir():
        file.write_bytes(b"text")
    with pytest.raises(Broken) as broken:  # none has a header
        convert(root, tmp_path / "out" / "train")
    assert len(broken.value.reasons) == 10


def test_a_chunk_with_a_broken_picture_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a kill before the error would hide it."""
    root, result = draw(tmp_path) / "train", tmp_path / "out" / "train"
    (root / "blue" / "0000.png").write_bytes((root / "blue" / "0000.png").read_bytes()[:70])
    monkeypatch.setattr(filling, "CHUNK_PICTURES", 10)
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)
    with pytest.raises(Broken):
        convert(root, result)
    assert (tmp_path / "out" / ".train.part" / "done").read_bytes() == b"\0\1\1"
