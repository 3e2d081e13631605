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
