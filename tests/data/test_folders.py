"""A folder of data that is mistyped, moved, linked, or used by another process."""

import errno
import os
import threading
from pathlib import Path

import pytest

from src.data import folders
from src.errors import UserError

NAMES = ("a", "b")


def test_what_is_absent(tmp_path: Path) -> None:
    assert folders.absent(tmp_path / "X" / "raw", NAMES) == ["a", "b"]
    (tmp_path / "b").touch()
    (tmp_path / "link").symlink_to(".")
    assert folders.absent(tmp_path / "link", NAMES) == ["a"]


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("root", "root is a link to /nowhere, which is not there; mend it, or name another folder with data.root="),
        ("root/X/raw", "raw is a link to /nowhere, which is not there; mend it"),
        ("root/X/raw/a", "a is a link to /nowhere, which is not there; mend the link, or remove it to have the file"),
    ],
)
def test_a_link_that_leads_nowhere(link: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / link).symlink_to("/nowhere")
    with pytest.raises(UserError) as error:
        folders.absent(tmp_path / "root" / "X" / "raw", NAMES)
    assert str(error.value).startswith("data.root: ")
    assert problem in str(error.value)


def test_a_folder_that_is_a_file_or_has_no_name_that_a_disk_takes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file, not a folder"):
        folders.absent(tmp_path / "file" / "raw", NAMES)
    with pytest.raises(UserError, match=r"cannot be read \(File name too long\)"):
        folders.absent(tmp_path / ("x" * 300) / "raw", NAMES)


def test_where_the_files_are_instead(tmp_path: Path) -> None:
    right = tmp_path / "X" / "raw"
    right.mkdir(parents=True)
    for name in NAMES:
        (right / name).touch()
    assert folders.misplaced(right, NAMES) == ""
    for root in (tmp_path / "X", right):
        hint = folders.misplaced(root / "X" / "raw", NAMES)
        assert hint == f"the files are in {right}: data.root={tmp_path}?"
    flat = tmp_path / "flat"
    right.rename(flat)
    assert folders.misplaced(flat / "X" / "raw", NAMES) == f"the files are in {flat}: move them to {flat}/X/raw"
    assert folders.misplaced(tmp_path / "X" / "raw", NAMES) == ""


def test_another_process_is_waited_for_and_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "WAIT_SECONDS", 0.0)
    said: list[str] = []
    told = threading.Event()

    def report(text: str) -> None:
        said.append(text)
        told.set()

    def second() -> None:
        with folders.alone(tmp_path, report) as shared:
            said.append(str(shared))

    with folders.alone(tmp_path, report):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(60)
        assert len(said) == 1
    thread.join()
    assert said == [
        f"waiting for another process that brings the files into {tmp_path} (it holds {tmp_path}/.lock)",
        "False",
    ]


def test_where_there_are_no_locks_others_may_write_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", fail)
    with folders.alone(tmp_path, print) as shared:
        assert shared


def test_what_cannot_be_written_is_a_mistake_that_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error, folders.writing(tmp_path / "x"):
        raise OSError(errno.EROFS, "Read-only file system")
    assert str(error.value) == (
        f"data.root: {tmp_path}/x cannot be written (Read-only file system); "
        "mount it for writing, or name another folder with data.root="
    )
