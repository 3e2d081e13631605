"""What is known of the pictures before they are converted: colour and size."""

import errno
from pathlib import Path
from typing import Any

import pytest

from src.data import class_folders, conversion, pixels
from src.errors import UserError
from tests.helpers.picture_folders import draw, drawn


def convert(root: Path, result: Path, size: int = 0, shape: Any = None) -> None:
    conversion.convert(class_folders.scan(root), result, size, shape, lambda _: None)


def left(result: Path) -> list[str]:
    """What is beside the result, hidden or not."""
    return sorted(path.name for path in result.parent.iterdir() if path.name not in (result.name, ".lock"))


def test_all_grey_pictures_are_grey_and_one_in_colour_is_enough(tmp_path: Path) -> None:
    root = draw(tmp_path, mode="L") / "train"
    convert(root, tmp_path / "out")
    assert conversion.shape_of(tmp_path / "out") == (12, 12)
    drawn("red", 0).save(root / "red" / "colour.png")
    convert(root, tmp_path / "out")
    assert conversion.shape_of(tmp_path / "out") == (3, 12, 12)


def test_another_size_names_both_pictures_and_the_fix(tmp_path: Path) -> None:
    root = draw(tmp_path) / "train"
    drawn("red", 0, (14, 12)).save(root / "red" / "large.png")
    message = rf"{root}/red/large\.png: is 14 x 12 pixels, {root}/blue/0000\.png 12 x 12; data\.image_size=64 brings"
    with pytest.raises(UserError, match=message):
        convert(root, tmp_path / "out" / "train")
    assert left(tmp_path / "out" / "train") == []
    convert(root, tmp_path / "out" / "train", 8)
    assert conversion.shape_of(tmp_path / "out" / "train") == (3, 8, 8)


def test_a_picture_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw(tmp_path) / "train"

    def refuse(source: Any, *rest: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    for name in ("header", "read"):
        with monkeypatch.context() as refused:
            refused.setattr(pixels, name, refuse)
            with pytest.raises(UserError, match=r"/blue/0000\.png: cannot be read \(Permission denied\); chmod it"):
                convert(root, tmp_path / "out" / "train")
