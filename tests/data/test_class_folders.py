"""The pictures of class folders, in ImageFolder's order."""

import os
from pathlib import Path

import pytest

from src.data import class_folders
from src.errors import UserError


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def test_the_order_is_imagefolder_s(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    put(
        tmp_path,
        "b/2.PNG",
        "b/10.jpg",
        "b/a/x.jpeg",
        "b/a-c/y.webp",
        "b/a/b/z.tif",
        "a/q.bmp",
        "a/notes.txt",
        "\u00e9/1.pgm",
    )
    found = class_folders.scan(tmp_path)
    theirs = datasets.ImageFolder(str(tmp_path))
    assert [
        (str(tmp_path / name), label) for name, label in zip(found.names, found.labels, strict=True)
    ] == theirs.samples
    assert list(found.classes) == theirs.classes == ["a", "b", "\u00e9"]


def test_hidden_files_are_not_looked_at_and_links_are_followed(tmp_path: Path) -> None:
    put(tmp_path / "train", "a/1.png", "a/._1.png", ".git/2.png", "b/3.png")
    put(tmp_path / "far", "4.png")
    (tmp_path / "train" / "c").symlink_to(tmp_path / "far")
    (tmp_path / "train" / "a" / "self").symlink_to(tmp_path / "train" / "a")
    found = class_folders.scan(tmp_path / "train")
    assert found.names == ["a/1.png", "b/3.png", "c/4.png"]
    assert found.classes == ("a", "b", "c")


def test_the_fingerprint_knows_names_sizes_and_times(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    seen = [class_folders.scan(tmp_path).fingerprint]
    os.utime(tmp_path / "a/1.png", ns=(1, 1))
    seen.append(class_folders.scan(tmp_path).fingerprint)
    (tmp_path / "a/1.png").write_bytes(b"longer than before")
    os.utime(tmp_path / "a/1.png", ns=(1, 1))
    seen.append(class_folders.scan(tmp_path).fingerprint)
    (tmp_path / "a/1.png").rename(tmp_path / "a/3.png")
    seen.append(class_folders.scan(tmp_path).fingerprint)
    assert len({*seen}) == 4
    assert class_folders.scan(tmp_path).fingerprint == seen[-1]


def test_what_is_left_out(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "a/2.png", "b/3.png")
    (tmp_path / class_folders.LEFT_OUT).write_bytes(b"a/1.png\r\n\r\nb/nowhere.png\r\n")
    left_out = class_folders.left_out(tmp_path)
    assert left_out == {"a/1.png", "b/nowhere.png"}
    assert class_folders.scan(tmp_path, left_out).names == ["a/2.png", "b/3.png"]
    assert class_folders.left_out(tmp_path / "a") == frozenset()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), r"holds no class folder; put the pictures into .*/CLASS"),
        (("1.png", "2.png"), r"the 2 pictures lie in the folder itself; move them into"),
        (("a/1.png", "b/notes.txt"), r"/b: the class has no picture: its 1 files end in none of \.jpg"),
    ],
)
def test_no_pictures(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    put(tmp_path, *names)
    with pytest.raises(UserError, match=message):
        class_folders.scan(tmp_path)


def test_an_empty_class_and_a_link_to_nothing(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(UserError, match=r"/b: the class has no picture; put one there, or move the folder away"):
        class_folders.scan(tmp_path)
    (tmp_path / "b" / "2.png").symlink_to("nowhere.png")
    with pytest.raises(UserError, match=r"/b/2\.png: cannot be read \(No such file"):
        class_folders.scan(tmp_path)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    """Whoever opens it waits for somebody who writes."""
    put(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "b" / "2.png")
    with pytest.raises(UserError, match=r"/b/2\.png: is no picture but a pipe, a socket or a device; move it away"):
        class_folders.scan(tmp_path)
    assert len(class_folders.scan(tmp_path, frozenset(["b/2.png"]))) == 2


def test_a_folder_without_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "b").chmod(0)
    before = os.geteuid()
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # the folders above are root's alone
    os.seteuid(before or 12345)
    try:
        with pytest.raises(UserError, match=r"^b: cannot be read \(Permission denied\); chmod it, or move it away"):
            class_folders.scan(Path("."))
    finally:
        os.seteuid(before)
        (tmp_path / "b").chmod(0o755)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    os.makedirs(os.fsencode(tmp_path) + b"/caf\xe9")
    with open(os.fsencode(tmp_path) + b"/caf\xe9/\xff.png", "wb"):
        pass
    found = class_folders.scan(tmp_path)
    assert found.classes == ("caf\\xe9",)
    assert found.name(0).endswith("/caf\\xe9/\\xff.png")
    assert found.sources(0, 1)[0].exists()


def test_thousands_of_classes(tmp_path: Path) -> None:
    put(tmp_path, *(f"c{number:04}/1.png" for number in range(2000)))
    found = class_folders.scan(tmp_path)
    assert (len(found.classes), found.labels[-1]) == (2000, 1999)
