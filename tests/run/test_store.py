"""A store behind a URL: files are whole there or not there, and what cannot be done is said in one line."""

import sys
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from src.errors import UserError
from src.run.store import Store, StoreFailed


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_is_written_is_read_back(kind: str, tmp_path: Path) -> None:
    made = Store(f"{kind}://{tmp_path}/there/r", "key")
    assert made.read("a/b.json") is None
    made.write("a/b.json", b"content")
    made.upload(Path(__file__), "a/c.py")
    assert made.read("a/b.json") == b"content"
    made.download("a/c.py", tmp_path / "back" / "c.py")
    assert (tmp_path / "back" / "c.py").read_bytes() == Path(__file__).read_bytes()
    for _ in range(2):
        made.remove("a/b.json")
    assert made.read("a/b.json") is None
    with pytest.raises(FileNotFoundError):
        made.download("a/b.json", tmp_path / "x")
    with pytest.raises(FileNotFoundError):
        made.upload(tmp_path / "gone", "x")


def test_a_folder_never_has_half_a_file_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Store(f"file://{tmp_path}/there", "key")
    made.write("x", b"old")

    def half(self: LocalFileSystem, path: str, content: bytes) -> None:
        Path(path).write_bytes(content[:2])
        raise OSError("cut")

    monkeypatch.setattr(LocalFileSystem, "pipe_file", half)
    with pytest.raises(StoreFailed, match="cut"):
        made.write("x", b"newer")
    assert made.read("x") == b"old"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("/mnt/x", "key=/mnt/x: must be a URL such as s3://bucket/prefix or file:///mnt/mirror"),
        ("s3://***@b/x", "key=s3://***@b/x: its password is not kept with a run; give key= again"),
        ("nowhere://x", "key=nowhere://x: Protocol not known: nowhere"),
        ("gs://b/x", "key=gs://b/x: the package gcsfs is not installed; uv pip install gcsfs (or pip install gcsfs)"),
        ("s3://a:b@c/x", "key=s3://***@c/x: the package s3fs is not installed; uv pip install s3fs (or"),
    ],
)
def test_a_url_that_cannot_be_used(url: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as refused:
        Store(url, "key")
    assert str(refused.value).startswith(text)
