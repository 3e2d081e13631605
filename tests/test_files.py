"""A file is whole under its name or not there."""

import errno
import os
from pathlib import Path

import pytest

from src import files


def test_a_file_gets_its_name_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("old")
    with files.whole(file) as temporary:
        temporary.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert os.listdir(tmp_path) == ["x"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    files.write_text(tmp_path / "x", "old")

    def fail() -> None:
        with files.whole(tmp_path / "x") as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened = []
    replace, fsync = os.replace, os.fsync

    def noted_replace(old: Path, new: Path) -> None:
        happened.append("name")
        replace(old, new)

    def noted_fsync(handle: int) -> None:
        happened.append("sync")
        fsync(handle)

    monkeypatch.setattr(files, "replace", noted_replace)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    files.write_text(tmp_path / "x", "text")
    assert happened == ["sync", "name", "sync"]


@pytest.mark.parametrize(("number", "raises"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_folder_that_cannot_be_flushed(
    number: int, raises: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems flush no folders; a disk that fails is another thing."""

    def fail(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if raises:
        with pytest.raises(OSError, match="Input/output error"):
            files.sync_folder(tmp_path)
    else:
        files.sync_folder(tmp_path)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.ENOSYS])
def test_a_second_name_where_there_are_no_hard_links(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*names: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", fail)
    (tmp_path / "a").write_text("content")
    files.link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "content"
    assert (tmp_path / "a").stat().st_nlink == 1
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_rename_that_is_refused_as_busy_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, calls = os.replace, []

    def busy(old: Path, new: Path) -> None:
        calls.append(1)
        if len(calls) < 4:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        replace(old, new)

    monkeypatch.setattr(files, "replace", busy)
    files.write_text(tmp_path / "x", "text")
    assert (tmp_path / "x").read_text() == "text"
    monkeypatch.setattr(files, "RENAME_SECONDS", 0.0)
    calls[:] = []
    with pytest.raises(OSError, match="busy"):
        files.write_text(tmp_path / "x", "new")
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "text"


def test_what_is_in_the_way_of_a_folder(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")
    (tmp_path / "good").symlink_to("a")
    files.make_folder(tmp_path / "good" / "c")
    assert (tmp_path / "a" / "c").is_dir()
    assert files.in_the_way(tmp_path / "good") == files.in_the_way(tmp_path / "none") == ""
    (tmp_path / "dangling").symlink_to("/nowhere/at/all")
    (tmp_path / "file").touch()
    for folder, problem in (
        ("dangling", "dangling is a link to /nowhere/at/all, which is not there"),
        ("dangling/below", "dangling is a link to /nowhere/at/all, which is not there"),
        ("file", "file is a file, not a folder"),
        ("file/below/it", "file is a file, not a folder"),
    ):
        with pytest.raises(OSError) as error:
            files.make_folder(tmp_path / folder)
        assert error.value.strerror == f"{tmp_path}/{problem}"


def test_a_warning_comes_once_for_each_kind_of_error() -> None:
    said: list[str] = []
    warnings = files.Warnings(said.append)
    full, broken = OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken")
    for error in (full, full, broken, broken):
        warnings.failed("x", error, "; goes on")
    assert said == ["x: full; goes on", "x: broken; goes on"]
    warnings.worked("x")
    warnings.failed("x", broken, "; goes on")
    assert len(said) == 3
    warn = files.once(said.append)
    for text in ("a", "a", "b", "a"):
        warn(text)
    assert said[3:] == ["a", "b"]
