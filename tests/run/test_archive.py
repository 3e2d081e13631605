"""A checkpoint's file: atomic writes, damage detected by its hash, and contents that are refused."""

import os
import pickle
import resource
from pathlib import Path

import pytest
import torch

from src.config import UserError
from src.run import archive
from src.run import run as run
from src.run.archive import Damaged
from tests.helpers.ranks import fork


def test_what_is_written_is_read(tmp_path: Path) -> None:
    content = {"format": archive.FORMAT, "model": {"w": torch.arange(5.0)}, "n": 3}
    digest = archive.write(tmp_path / "c.pt", content)
    assert len(digest) == 64
    found = archive.read(tmp_path / "c.pt")
    assert torch.equal(found["model"]["w"], torch.arange(5.0))
    assert torch.load(tmp_path / "c.pt", weights_only=True)["n"] == 3
    assert os.listdir(tmp_path) == ["c.pt"]


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    archive.write(tmp_path / "c.pt", {"format": 1, "w": torch.zeros(10)})
    whole = (tmp_path / "c.pt").read_bytes()
    for position in [*range(0, len(whole), 37), len(whole) - 1]:
        changed = bytearray(whole)
        changed[position] ^= 1
        (tmp_path / "c.pt").write_bytes(changed)
        with pytest.raises(Damaged):
            archive.read(tmp_path / "c.pt")
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "c.pt").write_bytes(whole[:length])
        with pytest.raises(Damaged):
            archive.read(tmp_path / "c.pt")


class Evil:
    """Unpickling it would make a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("kind", ["zip", "pickle"])
def test_code_is_refused_and_not_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "c.pt"
    if kind == "zip":
        archive.write(file, {"format": 1, "evil": Evil()})
        with pytest.raises(UserError, match="could run code: refused"):
            archive.read(file)
    else:
        file.write_bytes(pickle.dumps(Evil()))
        with pytest.raises(Damaged):
            archive.read(file)
    assert not (tmp_path / "evil").exists()


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    archive.write(tmp_path / "c.pt", {"format": archive.FORMAT + 1})
    with pytest.raises(UserError, match=rf"is of format {archive.FORMAT + 1}, this code reads up to"):
        archive.read(tmp_path / "c.pt")


@pytest.mark.parametrize("content", [{"format": "1"}, {"format": 1}, {"format": 1, "model": 5}, {"model": {}}])
def test_what_holds_no_model_is_refused(content: dict[str, object], tmp_path: Path) -> None:
    archive.write(tmp_path / "c.pt", content)
    with pytest.raises(UserError, match="is no checkpoint of this job"):
        archive.read(tmp_path / "c.pt")


def test_a_failed_write_raises_the_reason(tmp_path: Path) -> None:
    """torch.save would say `[enforce fail at inline_container.cc:671] . unexpected pos 7`."""

    def work() -> str | None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        with pytest.raises(OSError) as error:
            archive.write(tmp_path / "c.pt", {"format": 1, "w": torch.zeros(9999)})
        return error.value.strerror

    assert fork(1, work, tmp_path).values == ["File too large"]
    assert not list(tmp_path.glob("*.pt*"))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.write(tmp_path / "c.pt", {"format": 1})
    before = (tmp_path / "c.pt").read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        archive.write(tmp_path / "c.pt", {"format": 1, "more": torch.zeros(9)})
    assert os.listdir(tmp_path) == ["c.pt"]
    assert (tmp_path / "c.pt").read_bytes() == before
