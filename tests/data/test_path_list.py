"""A list of paths and labels, as spreadsheets and scripts write them."""

import os
from pathlib import Path

import pytest

from src.data import path_list
from src.data.path_list import Listed, Without
from src.errors import UserError


def write(folder: Path, text: str, name: str = "list.csv", encoding: str = "utf-8") -> Path:
    (folder / "pictures").mkdir(exist_ok=True)
    for file in ("a.png", "b.png", "c d.png"):
        (folder / "pictures" / file).write_bytes(b"a picture")
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def seen(source: Path) -> dict[str, list[tuple[str, str]]]:
    found = path_list.listed(source)
    assert all(isinstance(pictures, Listed) for pictures in found.values())
    return {
        split: [
            (path.name, pictures.classes[label])
            for path, label in zip(pictures.paths, pictures.labels, strict=True)  # type: ignore[attr-defined]
        ]
        for split, pictures in found.items()
    }


@pytest.mark.parametrize(
    "text",
    [
        "path,label,split\npictures/a.png,cat,train\npictures/b.png,dog,test\n",
        "\ufeffPath,Label,Split\r\npictures/a.png,cat,train\r\n\r\npictures/b.png,dog,TEST\r\n",
        "pictures/a.png,cat,train\r\npictures/b.png,dog,test",
        'split;class;filename\ntrain;"cat";"pictures/a.png"\ntest;dog;pictures\\b.png\n',
        "label\tpath\tsplit\textra\ncat\tpictures/a.png\ttraining\tx\ndog\tpictures/b.png\ttest\ty\n",
    ],
)
def test_headers_separators_and_line_ends(text: str, tmp_path: Path) -> None:
    assert seen(write(tmp_path, text)) == {"train": [("a.png", "cat")], "test": [("b.png", "dog")]}


def test_without_a_split_all_are_training_pictures(tmp_path: Path) -> None:
    source = write(tmp_path, "pictures/a.png, 10\npictures/b.png, 9\npictures/c d.png, 10\n")
    assert seen(source) == {"train": [("a.png", "10"), ("b.png", "9"), ("c d.png", "10")]}
    assert path_list.listed(source)["train"].classes == ("9", "10")  # numbers in their order


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    source = write(tmp_path, "pictures/a.png,cat\npictures/pipe.png,dog\n")
    os.mkfifo(tmp_path / "pictures" / "pipe.png")
    with pytest.raises(UserError, match=r"pipe\.png: is no picture but a pipe, a socket or a device; move it away"):
        path_list.listed(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,label\npictures/none.png,cat\n",
            r"list\.csv:2: .*none\.png: cannot be read \(No such file.*relative to",
        ),
        ("pictures/a.png,cat\npictures/b.png\n", r"list\.csv:2: pictures/b\.png: has not all of path,label; write"),
        ("pictures/a.png,cat,train\npictures/b.png,dog,val\n", r"list\.csv:2: the split is val; write train or test"),
        ("pictures/a.png,cat,test\n", r"names no training picture; columns: path,label,split"),
        ("path,label\n", "names no training picture"),
        ("", "names no training picture"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        path_list.listed(write(tmp_path, text))


def test_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not UTF-8 \(.* at byte 15\); save it as UTF-8"):
        path_list.listed(write(tmp_path, "pictures/a.png,\u00e9t\u00e9\n", encoding="latin-1"))
    with pytest.raises(UserError, match=r"cannot be read"):
        path_list.listed(tmp_path / "none.csv")


def test_pictures_without_some(tmp_path: Path) -> None:
    pictures = path_list.listed(write(tmp_path, "pictures/a.png,x\npictures/b.png,y\npictures/c d.png,x\n"))["train"]
    rest = Without(pictures, frozenset({0}))
    assert (len(rest), rest.labels, rest.classes) == (2, [1, 0], ("x", "y"))
    assert rest.sources(1, 2) == [tmp_path / "pictures" / "c d.png"]
    assert rest.name(0) == f"{tmp_path}/list.csv:2: {tmp_path}/pictures/b.png"
    assert rest.fingerprint != pictures.fingerprint
