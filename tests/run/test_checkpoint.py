"""A run's checkpoints: which are kept, which are loaded, and what does not fit."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from src.errors import JobFailed, UserError
from src.evaluation import evaluator
from src.run import archive, checkpoint, jsonl
from src.run import run as run
from src.run.layout import newest_first, read_status
from tests.helpers.ranks import Job
from tests.helpers.short_runs import job


def names(job: Job) -> list[str]:
    return sorted(file.name for file in (job.run / "checkpoints").iterdir())


def test_a_run_keeps_the_newest_and_the_best(small: str, tmp_path: Path) -> None:
    done = job(small, tmp_path, "checkpoint.every_steps=5", "checkpoint.keep=2")
    kept = names(done)
    assert kept == ["best.pt", "step-00000060.pt", "step-00000064.pt"]
    best = archive.read(done.run / "checkpoints" / "best.pt")
    tests = [line for line in jsonl.read(done.run / "metrics.jsonl") if line["kind"] == "test"]
    first_best = max(tests, key=lambda line: (line["correct"], -line["step"]))
    assert best["progress"]["step"] == first_best["step"]
    content = archive.read(done.run / "checkpoints" / kept[-1])
    assert set(content["model"]) == {"linear.weight", "linear.bias"}
    assert all(tensor.device.type == "cpu" for tensor in content["model"].values())
    events = [event for event in jsonl.read(done.run / "events.jsonl") if event["event"] == "checkpoint"]
    assert [event["step"] for event in events][-2:] == [60, 64]
    assert all(len(event["sha256"]) == 64 and event["milliseconds"] > 0 for event in events)


def test_a_loss_that_is_not_finite_stops_before_the_step(small: str, tmp_path: Path) -> None:
    failed = job(small, tmp_path, "optim.lr=1e38", "model.loss=cross_entropy", "checkpoint.every_steps=1", fails=True)
    assert failed.codes == [1, 1], failed.output
    assert "the loss is not finite at step" in failed.output
    assert "with learning rate 1e+38" in failed.output
    assert "Traceback" not in failed.output
    found = read_status(failed.run)
    assert found["state"] == "failed"
    assert "not finite" in str(found["reason"])
    newest = [name for name in names(failed) if name.startswith("step-")][-1]
    content = archive.read(failed.run / "checkpoints" / newest)
    assert all(torch.isfinite(tensor).all() for tensor in content["model"].values())


def test_a_full_disk_loses_one_checkpoint_and_warns(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = archive.write, []

    def full(*arguments: object) -> str:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(archive, "write", full)
    done = job(small, tmp_path)
    assert "No space left on device: this checkpoint is lost, the one before it is safe" in done.output
    assert read_status(done.run)["state"] == "finished"


def written(path: Path) -> int:
    """The newest step in metrics.jsonl."""
    return max((int(line["step"]) for line in jsonl.read(path / "metrics.jsonl")), default=0)


def held(monkeypatch: pytest.MonkeyPatch, before: Callable[[Path, int], None]) -> None:
    """Call `before` with the run's folder and the step before each checkpoint is written."""
    write = archive.write

    def holding(file: Path, content: dict[str, Any]) -> str:
        before(file.parent.parent, content["progress"]["step"])
        return write(file, content)

    monkeypatch.setattr(archive, "write", holding)


def test_training_goes_on_while_a_checkpoint_is_written(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk answers only when training is further: a job that waited for it would never get there."""
    seen = []

    def until_training_is_further(path: Path, step: int) -> None:
        deadline = time.monotonic() + 60
        while step == 10 and written(path) <= step and time.monotonic() < deadline:
            time.sleep(0.001)
        seen.append((step, written(path) > step, read_status(path)["step"]))
        (tmp_path / "seen").write_text(json.dumps(seen))

    plain = job(small, tmp_path / "plain", "checkpoint.every_steps=10")
    held(monkeypatch, until_training_is_further)
    done = job(small, tmp_path, "checkpoint.every_steps=10")
    assert read_status(done.run)["weights_sha256"] == read_status(plain.run)["weights_sha256"]
    told = json.loads((tmp_path / "seen").read_text())
    assert told[0] == [10, True, 0]
    steps = [step for step, _, _ in told]
    assert steps == [10, 16, 20, 30, 32, 40, 48, 50, 60, 64], "each waits for the one before, and none is left out"
    assert [before for _, _, before in told] == [0, *steps[:-1]], "status.json says what is on the disk"
    files = [sorted((path / "checkpoints").iterdir()) for path in (plain.run, done.run)]
    for one, other in zip(*files, strict=True):
        contents = [archive.read(file) for file in (one, other)]
        samples = [content["progress"] | {"metrics_bytes": 0} for content in contents]  # a speed may have a digit more
        assert samples[0] == samples[1]
        assert all(torch.equal(value, contents[1]["model"][name]) for name, value in contents[0]["model"].items())


def test_what_is_being_saved_is_not_lost_by_a_failure(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed_now = tmp_path / "failed"

    def until_the_failure(path: Path, step: int) -> None:
        deadline = time.monotonic() + 60
        while not failed_now.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.3)

    def fail(*_: object) -> None:
        failed_now.touch()
        raise JobFailed("the evaluation failed")

    held(monkeypatch, until_the_failure)
    monkeypatch.setattr(evaluator, "evaluate", fail)
    failed = job(small, tmp_path, fails=True)
    assert (failed.codes, "error: the evaluation failed" in failed.output) == ([1, 1], True), failed.output
    assert names(failed) == ["step-00000016.pt"]
    assert {name: read_status(failed.run)[name] for name in ("state", "step")} == {"state": "failed", "step": 16}
    assert [event["event"] for event in jsonl.read(failed.run / "events.jsonl")] == ["start", "checkpoint", "failed"]


def test_a_mistake_that_the_thread_finds_ends_all_ranks(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*_: object) -> None:
        raise UserError("r: is in use by another job", fix="wait")

    monkeypatch.setattr(run.Run, "remake", taken)
    refused = job(small, tmp_path, fails=True)
    assert refused.codes == [2, 2], refused.output
    assert refused.output.count("error: r: is in use by another job; wait\n") == 1


@pytest.mark.parametrize(
    ("weight", "buffer", "named"),
    [
        (1.0, 0.0, ""),
        (1.0, -torch.inf, ""),  # a mask
        (3e38, 0.0, ""),  # the sum overflows
        (torch.inf, 0.0, "weight"),
        (torch.nan, 0.0, "weight"),
        (1.0, torch.nan, "mask"),
    ],
)
def test_weights_that_are_not_finite_are_found(weight: float, buffer: float, named: str) -> None:
    module = torch.nn.Linear(4, 4, bias=False)
    torch.nn.init.constant_(module.weight, weight)
    module.register_buffer("mask", torch.full((3,), buffer))
    module.register_buffer("count", torch.tensor(3))
    assert checkpoint._not_finite(module) == named


def test_checkpoints_are_ordered_by_number(tmp_path: Path) -> None:
    """As text step-100000000.pt comes before step-99999999.pt, and keep=1 would delete it."""
    for name in ("step-99999999.pt", "step-100000000.pt", "step-00000005.pt", "step-x.pt", "best.pt"):
        (tmp_path / name).touch()
    found = [file.name for file in newest_first(tmp_path)]
    assert found == ["step-100000000.pt", "step-99999999.pt", "step-00000005.pt"]
