"""Pictures as one mapped array: resumable, whole or not there, anew where the pictures changed."""

import errno
import io
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src import files, flock
from src.data import class_folders, conversion, filling, idx, pixels, survey
from src.errors import UserError
from tests.helpers.picture_folders import draw, drawn


def nothing(text: str) -> None:
    pass


def convert(
    root: Path, result: Path, size: int = 0, shape: Any = None, report: Callable[[str], None] = nothing
) -> None:
    conversion.convert(class_folders.scan(root), result, size, shape, report)


def left(result: Path) -> list[str]:
    """What is beside the result, hidden or not."""
    return sorted(path.name for path in result.parent.iterdir() if path.name not in (result.name, ".lock"))


def test_the_array_holds_the_pictures_in_their_order(tmp_path: Path) -> None:
    pictures = class_folders.scan(draw(tmp_path) / "train")
    conversion.convert(pictures, tmp_path / "out" / "train", 0, None, nothing)
    split = idx.split_of(tmp_path / "out" / "train", "images", "labels")
    assert split.inputs.shape == (30, 3, 12, 12)
    assert split.targets[:].tolist() == [0] * 10 + [1] * 10 + [2] * 10
    for index in (0, 11, 29):
        expected = pixels.read(pictures.sources(index, index + 1)[0], True, None)
        assert (split.inputs[index].numpy() == expected).all()
    assert conversion.shape_of(tmp_path / "out" / "train") == (3, 12, 12)
    assert left(tmp_path / "out" / "train") == []


def test_changed_pictures_are_converted_anew(tmp_path: Path) -> None:
    root, result = draw(tmp_path) / "train", tmp_path / "out" / "train"
    convert(root, result)
    mapped, before = idx.read(result / "images"), os.stat(result / "images").st_ino
    convert(root, result)
    assert os.stat(result / "images").st_ino == before
    drawn("red", 99).save(root / "blue" / "0000.png")
    convert(root, result)
    assert not np.array_equal(mapped[0].numpy(), idx.read(result / "images")[0].numpy())
    assert left(result) == []


class Slow(class_folders.Pictures):
    """Pictures that are killed in the middle of the conversion, after those of some chunks."""

    def sources(self, start: int, stop: int) -> list[Path]:
        if start >= 16:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().sources(start, stop)


def test_a_killed_conversion_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "CHUNK_PICTURES", 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    root, result = draw(tmp_path) / "train", tmp_path / "out" / "train"
    pictures = class_folders.scan(root)
    if (child := os.fork()) == 0:
        monkeypatch.setattr(survey, "shape_of", lambda *_: (3, 12, 12))
        conversion.convert(Slow(**vars(pictures)), result, 0, None, nothing)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    part = tmp_path / "out" / ".train.part"
    assert (part / "done").read_bytes() == b"\1" * 4 + b"\0" * 4
    assert not result.exists()

    read: list[int] = []

    def sources(self: class_folders.Pictures, start: int, stop: int) -> list[Path]:
        read.append(start)
        return [self.root / name for name in self.names[start:stop]]

    monkeypatch.setattr(class_folders.Pictures, "sources", sources)
    lines: list[str] = []
    convert(root, result, report=lines.append)
    assert lines == [f"{part}: going on with the conversion that was stopped"]
    assert sorted(read) == [16, 20, 24, 28]
    assert left(result) == []
    convert(root, tmp_path / "again" / "train")
    assert (tmp_path / "again" / "train" / "images").read_bytes() == (result / "images").read_bytes()


def test_what_a_kill_left_of_other_pictures_is_not_used(tmp_path: Path) -> None:
    root, part = draw(tmp_path) / "train", tmp_path / "out" / ".train.part"
    part.mkdir(parents=True)
    (part / "images").touch()
    (part / "source.json").write_text('{"key": {"pictures": "others"}, "shape": [9, 9]}')
    (part / "done").write_bytes(b"\1")
    convert(root, tmp_path / "out" / "train")
    assert conversion.shape_of(tmp_path / "out" / "train") == (3, 12, 12)


def test_a_disk_that_is_too_small_or_fills_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, result = draw(tmp_path) / "train", tmp_path / "out" / "train"
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as small:
        small.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(UserError, match=r"has 0\.0 MB free, the converted pictures take 0\.0; make room there"):
            convert(root, result)

    def full(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as filling:
        filling.setattr(os, "pwrite", full)
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); make room there"):
            convert(root, result)
    assert left(result) == []
    assert not result.exists()


class Rows:
    """Pictures of a table: bytes, not files."""

    origin, classes, labels, fingerprint = Path("table"), ("a", "b"), [0, 1, 1], "rows"

    def __len__(self) -> int:
        return 3

    def name(self, index: int) -> str:
        return f"row {index}"

    def sources(self, start: int, stop: int) -> Sequence[io.BytesIO]:
        streams = [io.BytesIO() for _ in range(3)]
        for index, stream in enumerate(streams):
            drawn("red", index).save(stream, "PNG")
            stream.seek(0)
        return streams[start:stop]


def test_pictures_may_be_bytes(tmp_path: Path) -> None:
    conversion.convert(Rows(), tmp_path / "out" / "train", 0, None, nothing)
    assert idx.read(tmp_path / "out" / "train" / "labels")[:].tolist() == [0, 1, 1]


def test_one_of_several_processes_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, result = draw(tmp_path) / "train", tmp_path / "out" / "train"
    finish = conversion._finish

    def slow(*arguments: Any) -> None:
        with (tmp_path / "converted").open("a") as log:
            log.write("once\n")
        time.sleep(0.3)
        finish(*arguments)

    monkeypatch.setattr(conversion, "_finish", slow)
    children = []
    for _ in range(3):
        if (child := os.fork()) == 0:
            convert(root, result)
            os._exit(0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert (tmp_path / "converted").read_text() == "once\n"


def test_without_locks_each_converts_and_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, shared: bool = False) -> bool:
        raise flock.NoLocks("Function not implemented")

    monkeypatch.setattr(flock, "take", no_locks)
    root, result = draw(tmp_path) / "train", tmp_path / "out" / "train"
    rename, names = os.rename, list[str]()

    def overtaken(old: Path, new: Path) -> None:
        if new == result and not names:  # another process is a moment quicker
            names.append(old.name)
            monkeypatch.setattr(os, "getpid", lambda: 1)
            convert(root, result)
        rename(old, new)

    monkeypatch.setattr(os, "rename", overtaken)
    convert(root, result)
    assert names[0].startswith(f".train.{os.uname().nodename}-")
    assert idx.read(result / "images").shape == (30, 3, 12, 12)
    assert left(result) == []


def test_all_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, done = tmp_path / "out" / "train", []
    original = files.sync, files.sync_folder, os.rename

    def sync(handle: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        original[0](handle)

    def sync_folder(folder: Path) -> None:
        done.append(folder.name)
        original[1](folder)

    def rename(source: Path, target: Path) -> None:
        done.append(f"to {target.name}")
        original[2](source, target)

    monkeypatch.setattr(files, "sync", sync)
    monkeypatch.setattr(files, "sync_folder", sync_folder)
    monkeypatch.setattr(os, "rename", rename)
    convert(draw(tmp_path) / "train", result)
    before, after = done[: done.index("to train")], done[done.index("to train") :]
    synced = [name for name in before if not name.startswith("to ")]
    assert {*left_names(result)} <= {*synced}
    assert synced[-1] == ".train.part"
    assert "out" in after, "the name too"


def left_names(result: Path) -> list[str]:
    """The files of a converted split."""
    return [file.name for file in result.iterdir() if file.name in conversion.NAMES]
