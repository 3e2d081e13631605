"""Tables are kept beside metrics.jsonl, the newest only."""

from pathlib import Path

import pytest

from src.run import tables


def test_the_newest_values_are_kept(tmp_path: Path) -> None:
    warnings: list[str] = []
    tables.write(tmp_path, 5, {"confusion": [[1, 2], [3, 4]]}, warnings.append)
    tables.write(tmp_path, 9, {"confusion": [[5, 0], [0, 5]], "other": [1]}, warnings.append)
    assert tables.read(tmp_path, "confusion") == [[5, 0], [0, 5]]
    assert tables.read(tmp_path, "none") is None
    assert warnings == []


@pytest.mark.parametrize(("step", "left"), [(9, [1]), (8, None), (0, None)])
def test_what_was_measured_later_is_removed_on_resume(step: int, left: object, tmp_path: Path) -> None:
    tables.write(tmp_path, 9, {"counts": [1]}, print)
    tables.forget_after(tmp_path, step)
    assert tables.read(tmp_path, "counts") == left


def test_a_disk_that_does_not_take_it_costs_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    (tmp_path / "tables").write_text("in the way")
    tables.write(tmp_path, 9, {"counts": [1]}, warnings.append)
    assert len(warnings) == 1
    assert "training goes on" in warnings[0]
