"""The drill: its scenarios pass, and a run that lost something fails."""

import json
from pathlib import Path

import pytest

from src.drill import __main__ as drill
from src.drill.scenarios import Drill
from tests.helpers.commands import command, python_m

OTHERS = ("newest checkpoint, one byte flipped", "disk full during a checkpoint")


@pytest.mark.parametrize(
    "names", [("kill -9 of a random rank",), pytest.param(OTHERS, marks=pytest.mark.slow(seconds=30))]
)
def test_a_short_drill(names: tuple[str, ...]) -> None:
    done = python_m("src.drill", "--json", "--only", *names)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["name"] for result in results] == ["uninterrupted", *names], done.stdout + done.stderr
    assert all(result["passed"] for result in results), done.stdout
    assert {result["sha256"] for result in results} == {results[0]["reference"]}
    assert results[1]["resumed_at"]
    assert done.returncode == 0


@pytest.mark.slow(seconds=90)
@pytest.mark.parametrize("model", ["convnet", "transformer"])
def test_a_short_drill_of_another_model(model: str) -> None:
    """With AdamW, clipping, averages and bfloat16, through a kill and on other numbers of ranks."""
    done = python_m("src.drill", "--json", "--model", model, "--only", "resumed on 2, 8 and 4 ranks")
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["passed"] for result in results] == [True, True], done.stdout + done.stderr
    assert results[1]["resumed_at"]


def finished(path: Path, weights: str, *steps: int) -> Path:
    path.mkdir()
    (path / "status.json").write_text(json.dumps({"state": "finished", "weights_sha256": weights}))
    (path / "metrics.jsonl").write_text("".join(json.dumps({"step": step}) + "\n" for step in steps))
    return path


@pytest.mark.parametrize(
    ("weights", "steps", "problem"),
    [
        ("a", (1, 2, 3), ""),
        ("b", (1, 2, 3), "different weights"),
        ("a", (1, 3), "metrics.jsonl differs"),
        ("a", (1, 2, 2, 3), "metrics.jsonl differs"),
    ],
)
def test_differences_that_fail_the_drill(weights: str, steps: tuple[int, ...], problem: str, tmp_path: Path) -> None:
    reference = finished(tmp_path / "reference", "a", 1, 2, 3)
    assert drill._difference(finished(tmp_path / "run", weights, *steps), reference) == problem


def test_a_scenario_that_broke_nothing_fails_the_drill() -> None:
    whole = [{"event": "start"}, {"event": "checkpoint"}, {"event": "finish"}]
    assert drill._without_fault(whole) == "the fault did not occur"
    for harm in ("resume", "checkpoint failed"):
        assert drill._without_fault([*whole, {"event": harm}]) == ""


def test_an_unfinished_run_fails_the_drill(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", "a", 1)
    (run / "status.json").write_text('{"state": "preempted"}')
    assert drill._difference(run, finished(tmp_path / "reference", "a", 1)) == "state preempted"


def test_an_unknown_scenario_is_refused() -> None:
    done = command("src.drill", "--only", "hope")
    assert done.returncode == 2
    assert "kill -9 of a random rank" in done.stderr


def test_the_newest_checkpoint_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "x" / "checkpoints"
    folder.mkdir(parents=True)
    for step in ("99999999", "100000000", "00000150"):
        (folder / f"step-{step}.pt").touch()
    assert Drill(tmp_path, "x", 0).newest().name == "step-100000000.pt"
