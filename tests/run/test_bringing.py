"""Bringing a run back: the whole of it or nothing, with the settings in place last."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src.errors import UserError
from src.run import archive, bringing, seal
from src.run.manifest import Manifest
from src.run.store import Store, StoreFailed

FILES = ["config.yaml", "metrics.jsonl", "model/m.py", "status.json"]


@pytest.fixture
def there(tmp_path: Path) -> tuple[Store, Manifest]:
    """A store with two checkpoints, the older of which is the best one."""
    folder = tmp_path / "there" / "id"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "checkpoints").mkdir()
    names = [f"step-{step:08d}.pt" for step in (20, 10)]
    for number, name in enumerate(names):
        archive.write(folder / "checkpoints" / name, {"format": 1, "model": {"w": torch.full((9,), number)}})
    sums = {name: seal.of(folder / "checkpoints" / name) for name in names}
    return Store(f"file://{tmp_path}/there", "key"), Manifest("id", "job", sums, names[1], sums[names[1]], FILES)


def contents(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def nothing(_: object) -> None:
    """Neither refuses nor warns."""


def test_the_newest_and_the_best_are_brought(there: tuple[Store, Manifest], tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert bringing.bring_back(*there, run, -1, nothing, nothing) == (20, [])
    assert contents(run) == sorted([*FILES, "checkpoints/best.pt", "checkpoints/step-00000020.pt"])
    assert seal.of(run / "checkpoints" / "best.pt") == there[1].best_sha256


def test_only_what_is_above_a_step_is_brought(there: tuple[Store, Manifest], tmp_path: Path) -> None:
    run = tmp_path / "run"
    newest = tmp_path / "there" / "id" / "checkpoints" / "step-00000020.pt"
    newest.write_bytes(newest.read_bytes()[:-1])
    told: list[str] = []
    assert bringing.bring_back(*there, run, 10, nothing, told.append) == (None, [newest.name])
    assert (contents(run), len(told)) == ([], 2)
    assert bringing.bring_back(*there, run, 9, nothing, nothing) == (10, [newest.name])


def fail(error: Exception) -> Callable[[object], None]:
    def raising(_: object) -> None:
        raise error

    return raising


def test_a_refusal_leaves_nothing(there: tuple[Store, Manifest], tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(UserError, match="another"):
        bringing.bring_back(*there, run, -1, fail(UserError("another")), nothing)
    assert contents(run) == []


@pytest.mark.parametrize("name", FILES)
def test_what_breaks_on_the_way_leaves_nothing(name: str, there: tuple[Store, Manifest], tmp_path: Path) -> None:
    (tmp_path / "there" / "id" / name).unlink()
    with pytest.raises(StoreFailed, match=f"id/{name} is not there"):
        bringing.bring_back(*there, tmp_path / "run", -1, nothing, nothing)
    assert contents(tmp_path / "run") == []


def test_the_settings_come_last(there: tuple[Store, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without them is no run yet: the next start brings everything again."""
    moved: list[str] = []
    replace = os.replace

    def noted(old: Path, new: Path) -> None:
        moved.append(Path(new).name)
        replace(old, new)

    monkeypatch.setattr(os, "replace", noted)
    bringing.bring_back(*there, tmp_path / "run", -1, nothing, nothing)
    assert moved[-1] == "config.yaml"
    assert set(moved[:2]) == {"best.pt", "step-00000020.pt"}


def test_a_best_that_is_damaged_is_left_out(there: tuple[Store, Manifest], tmp_path: Path) -> None:
    best = tmp_path / "there" / "id" / "checkpoints" / "step-00000010.pt"
    best.write_bytes(best.read_bytes()[:-1])
    assert bringing.bring_back(*there, tmp_path / "run", -1, nothing, nothing) == (20, [])
    assert "checkpoints/best.pt" not in contents(tmp_path / "run")
