"""What W&B displays of a finished run: what fits its model and its data, and nothing else."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from src.evaluation.measure import evaluate
from src.run import trained
from src.tracking import pictures


class Wandb:
    """Keeps what it is given, as the package's classes would."""

    def __init__(self) -> None:
        self.tables: list[list[Any]] = []
        self.rows: list[list[list[Any]]] = []
        self.shapes: list[tuple[int, ...]] = []

    def Table(self, columns: list[str], data: list[Any]) -> int:
        self.tables.append(columns)
        self.rows.append(data)
        return len(data)

    def Image(self, array: Any, caption: str = "") -> str:
        self.shapes.append(array.shape)
        return caption


def content(run: Path, wandb: Wandb, names: tuple[str, ...] = ()) -> dict[str, Any]:
    loaded = trained.load(run)
    test = trained.test_of(loaded).test
    metrics = evaluate(loaded.model, loaded.module, test)
    spec = dataclasses.replace(loaded.spec, names=names)
    return pictures.pictures(loaded.model, loaded.module, spec, test, metrics)(wandb)


def test_a_linear_model_has_templates(best: Path) -> None:
    found = content(best, wandb := Wandb())
    assert found["confusion"] == 10
    assert found["most_wrong"] == pictures.WRONG
    assert found["templates"] == [str(label) for label in range(10)]
    assert set(wandb.shapes) == {(28, 28)}


FITTING: dict[str, set[str]] = {"colours": {"confusion", "most_wrong"}, "tokens": set(), "outputs": set()}


@pytest.mark.parametrize(("name", "keys"), FITTING.items())
def test_any_other_model_has_what_fits(name: str, keys: set[str], strangers: Path) -> None:
    found = content(strangers / name / "runs" / name, wandb := Wandb())
    assert found.keys() == keys
    assert set(wandb.shapes) == ({(12, 12, 3)} if name == "colours" else set())


def test_classes_are_called_by_their_names(best: Path) -> None:
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    found = content(best, wandb := Wandb(), names)
    assert found["templates"] == list(names)
    confusion, wrong = wandb.rows
    assert wandb.tables[0] == ["truth", *(f"guess {name}" for name in names)]
    assert [row[0] for row in confusion] == list(names)
    assert {row[2] for row in wrong} | {row[3] for row in wrong} <= {*names}
