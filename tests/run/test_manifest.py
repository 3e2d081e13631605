"""What a mirror says that it holds, and that nothing outside a run's folder can be named."""

import json
from pathlib import Path

import pytest

from src.run import manifest
from src.run.manifest import Manifest
from src.run.store import Store


def test_a_manifest_is_read_back(tmp_path: Path) -> None:
    there = Store(f"file://{tmp_path}", "key")
    made = Manifest("id", "job", {"step-00000016.pt": "a", "step-100000000.pt": "b"}, best="step-00000016.pt")
    made.write(there, "x/latest.json")
    assert manifest.read(there, "x/latest.json") == made
    assert made.step == 100_000_000
    assert manifest.newest_first(made.checkpoints)[0] == "step-100000000.pt"
    assert Manifest("id", "job").step == 0
    assert manifest.read(there, "y") is None


@pytest.mark.parametrize(
    "change",
    [
        {"files": ["../../.bashrc"]},
        {"files": ["/etc/passwd"]},
        {"files": [""]},
        {"id": "../other"},
        {"best": "../x.pt"},
        {"checkpoints": {"../step-00000001.pt": "a"}},
        {"checkpoints": {"x.pt": "a"}},
        {"checkpoints": 3},
        {"format": 2},
        {"new": 1},
    ],
)
def test_what_is_no_manifest_is_not_read(change: dict[str, object], tmp_path: Path) -> None:
    there = Store(f"file://{tmp_path}", "key")
    for content in (b"", b"[]", b"half", json.dumps({"id": "a", "writer": "b"} | change).encode()):
        there.write("latest.json", content)
        assert manifest.read(there, "latest.json") is None


def test_ids_are_new_each_time() -> None:
    assert len({manifest.new_id() for _ in range(100)}) == 100
