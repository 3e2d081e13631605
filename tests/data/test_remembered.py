"""Checksums are remembered of files that are as they were, and computed anew in any doubt."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from src import files
from src.data import download, remembered
from src.data.folders import say
from src.data.remembered import NAME, Remembered
from src.errors import UserError
from tests.helpers.ranks import fork

OLD = 10.0  # seconds


@pytest.fixture(autouse=True)
def old_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files are taken for older than they are; no test has the cache of another."""
    monkeypatch.setattr(remembered, "RACY_SECONDS", -OLD)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    for name in ("a", "b"):
        (made / name).write_text(name * 100)
    return made


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files whose checksum is computed."""
    names: list[str] = []
    sha256 = download.sha256

    def noted(file: Path, read: Callable[[int], None] = lambda _: None) -> str:
        names.append(file.name)
        return sha256(file, read)

    monkeypatch.setattr(download, "sha256", noted)
    return names


def verify(folder: Path) -> dict[str, str]:
    return download.verify(folder, ("a", "b"), {}, say)


def test_the_second_time_reads_no_file(folder: Path, computed: list[str]) -> None:
    first = verify(folder)
    assert computed == ["a", "b"]
    assert verify(folder) == first
    assert computed == ["a", "b"]
    assert not (folder.parent / "cache").exists()


def rewritten(file: Path) -> None:
    """Other bytes, with the size and the time of before."""
    status = file.stat()
    file.write_text("x" * status.st_size)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def replaced(file: Path) -> None:
    status = file.stat()
    file.with_name("new").write_text("x" * status.st_size)
    os.utime(file.with_name("new"), ns=(status.st_atime_ns, status.st_mtime_ns))
    file.with_name("new").rename(file)


def swapped(file: Path) -> None:
    """Each file under the other's name: sizes are the same."""
    other = file.with_name("b")
    file.rename(file.with_name("c"))
    other.rename(file)
    file.with_name("c").rename(other)


@pytest.mark.parametrize("change", [rewritten, replaced, swapped, lambda file: file.write_text("longer" * 50)])
def test_a_file_that_is_another_is_read(change: Callable[[Path], None], folder: Path, computed: list[str]) -> None:
    verify(folder)
    change(folder / "a")
    assert verify(folder)["a"] == download.sha256(folder / "a")
    assert computed.count("a") == 3


def test_a_file_that_has_just_changed_is_not_remembered(
    folder: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may change again without another time."""
    monkeypatch.setattr(remembered, "RACY_SECONDS", 1000.0)
    verify(folder)
    verify(folder)
    assert computed == ["a", "b", "a", "b"]
    assert not (folder / NAME).exists()


def test_a_file_that_changes_while_it_is_read_is_not_remembered(folder: Path) -> None:
    def compute(file: Path) -> str:
        digest = download.sha256(file)
        file.write_text("y" * 7)
        return digest

    memory = Remembered(folder)
    memory.sha256("a", compute)
    assert memory.known("a") == ""


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff\xfe", b'{"a": 1}', b'{"a": [[1], 2]}', b'{"a": [null, null]}', b"null"]
)
def test_a_damaged_record_is_made_anew(content: bytes, folder: Path, computed: list[str]) -> None:
    first = verify(folder)
    (folder / NAME).write_bytes(content)
    assert verify(folder) == first
    assert computed == ["a", "b"] * 2
    assert {*json.loads((folder / NAME).read_text())} == {"a", "b"}


def test_a_folder_that_cannot_be_written_is_remembered_in_the_cache(
    folder: Path, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files.whole

    def refused(file: Path, shared: bool = False) -> object:
        if file.parent in (folder, *closed):
            raise PermissionError(13, "Permission denied")
        return whole(file, shared)

    closed: list[Path] = []
    monkeypatch.setattr(files, "whole", refused)
    verify(folder)
    verify(folder)
    assert computed == ["a", "b"]
    (record,) = (folder.parent / "cache" / remembered.CACHE).iterdir()
    record.unlink()
    closed.append(record.parent)
    verify(folder)
    verify(folder)
    assert computed == ["a", "b"] * 3, "nowhere to write: computed each time"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    verify(folder)


def test_writers_at_the_same_time_leave_a_whole_record(folder: Path) -> None:
    assert fork(4, lambda: [verify(folder) for _ in range(5)], folder.parent).codes == [0] * 4
    assert {file.name for file in folder.iterdir()} == {"a", "b", NAME}
    assert Remembered(folder).known("a") == download.sha256(folder / "a")


def test_what_is_remembered_is_held_against_what_was_fetched(folder: Path) -> None:
    verify(folder)
    with pytest.raises(UserError, match=r"a: is damaged or altered: SHA-256 \w{64}, expected 00; move it away"):
        download.verify(folder, ("a",), {"a": "00"}, say)


def test_bytes_that_change_by_themselves_are_found_on_demand(folder: Path) -> None:
    verify(folder)
    records = json.loads((folder / NAME).read_text())
    records["a"][1] = "0" * 64
    (folder / NAME).write_text(json.dumps(records))
    assert verify(folder)["a"] == "0" * 64
    assert remembered.altered(folder, ("a", "b"), download.sha256) == ["a"]
    assert verify(folder)["a"] == download.sha256(folder / "a"), "the record is mended"
    assert remembered.altered(folder, ("a", "b"), download.sha256) == []
