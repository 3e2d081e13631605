"""A sealed file is known to be whole, without torch."""

import hashlib
import zipfile
from pathlib import Path

from src.run import seal


def sealed(file: Path) -> bytes:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data", b"content")
    with file.open("r+b") as stream:
        digest = seal.add(stream)
    content = file.read_bytes()
    assert digest == hashlib.sha256(content[: -seal.LENGTH]).hexdigest() == seal.given(content)
    return content


def test_a_sealed_file_is_whole_and_still_a_zip_archive(tmp_path: Path) -> None:
    content = sealed(tmp_path / "x")
    assert seal.is_whole(tmp_path / "x")
    assert not seal.is_broken(content)
    with zipfile.ZipFile(tmp_path / "x") as archive:
        assert archive.read("data") == b"content"
        assert archive.comment == content[-seal.LENGTH :], "the archive knows how long its comment is"


def test_a_changed_byte_breaks_it(tmp_path: Path) -> None:
    content = bytearray(sealed(tmp_path / "x"))
    content[10] ^= 1
    (tmp_path / "x").write_bytes(content)
    assert seal.is_broken(bytes(content))
    assert not seal.is_whole(tmp_path / "x")


def test_a_file_without_a_seal_is_neither_broken_nor_whole(tmp_path: Path) -> None:
    content = sealed(tmp_path / "x")[:-5]
    (tmp_path / "x").write_bytes(content)
    assert seal.given(content) is None
    assert not seal.is_broken(content)
    assert not seal.is_whole(tmp_path / "x")
    assert not seal.is_whole(tmp_path / "none")
