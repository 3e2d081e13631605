"""A run's checkpoints: which are kept, which are loaded, and what does not fit."""

from pathlib import Path

import pytest
import torch

from src.run import archive, jsonl
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


def test_weights_of_another_run(small: str, tmp_path: Path) -> None:
    first = job(small, tmp_path)
    source = first.run / "checkpoints" / "best.pt"
    second = job(small, tmp_path, "run.name=second", f"checkpoint.resume={source}", "optim.lr=0.02")
    assert f"(weights of {source})" in second.output
    lines_of = [next(jsonl.read(path / "metrics.jsonl")) for path in (first.run, second.run)]
    assert lines_of[1]["step"] == 5
    assert lines_of[1]["loss"] < lines_of[0]["loss"]


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ({"format": 1, "model": {"linear.weight": torch.zeros(3, 3)}}, "does not fit the model: linear.bias None"),
        ({"format": 9}, "is of format 9"),
        ({"weights": 1}, "is no checkpoint of this job"),
        (None, "cannot be read (No such file or directory)"),
        (b"rubbish", "is truncated or no checkpoint"),
    ],
)
def test_weights_that_do_not_fit(content: object, advice: str, small: str, tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, dict):
        archive.write(file, content)
    refused = job(small, tmp_path, f"checkpoint.resume={file}", fails=True)
    assert refused.codes == [2, 2], refused.output
    assert advice in refused.output
    assert f"error: checkpoint.resume={file}: " in refused.output
    assert not (tmp_path / "runs" / "r" / "config.yaml").exists(), "the mended command would contradict it"


def test_weights_of_another_shape_are_refused(small: str, tmp_path: Path) -> None:
    done = job(small, tmp_path, "train.epochs=1")
    for file in (done.run / "checkpoints").glob("*.pt"):
        content = archive.read(file)
        file.unlink()
        archive.write(file, content | {"model": content["model"] | {"linear.bias": torch.zeros(3)}})
    refused = job(small, tmp_path, fails=True)
    assert refused.codes == [2, 2], refused.output
    assert "its checkpoint does not fit the model: linear.bias (3,), expected (10,)" in refused.output


def test_a_damaged_checkpoint_is_set_aside(small: str, tmp_path: Path) -> None:
    whole = job(small, tmp_path / "whole")
    half = job(small, tmp_path, "train.epochs=3", "checkpoint.every_steps=10")
    newest = half.run / "checkpoints" / "step-00000048.pt"
    earlier = (half.run / "checkpoints" / "step-00000040.pt").read_bytes()
    newest.write_bytes(newest.read_bytes()[:-100])
    again = job(small, tmp_path, ranks=1)
    assert "DAMAGED" in again.output
    assert "resumed at step 40" in again.output
    assert "step-00000048.pt.damaged" in names(again)
    assert read_status(again.run)["weights_sha256"] == read_status(whole.run)["weights_sha256"]
    assert [e["file"] for e in jsonl.read(again.run / "events.jsonl") if e["event"] == "damaged"] == [newest.name]
    steps = [line["step"] for line in jsonl.read(again.run / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == [line["step"] for line in jsonl.read(whole.run / "metrics.jsonl") if line["kind"] == "train"]

    for best, told in (
        (earlier, "resumed at step 40"),
        (earlier[:-1], "no good checkpoint left: training starts anew"),
    ):
        for file in again.run.glob("checkpoints/step-*.pt"):
            file.write_bytes(file.read_bytes()[:-100])
        (again.run / "checkpoints" / "best.pt").unlink()
        (again.run / "checkpoints" / "best.pt").write_bytes(best)
        last = job(small, tmp_path, ranks=1)
        assert told in last.output
        assert read_status(last.run)["weights_sha256"] == read_status(whole.run)["weights_sha256"]


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


def test_checkpoints_are_ordered_by_number(tmp_path: Path) -> None:
    """As text step-100000000.pt comes before step-99999999.pt, and keep=1 would delete it."""
    for name in ("step-99999999.pt", "step-100000000.pt", "step-00000005.pt", "step-x.pt", "best.pt"):
        (tmp_path / name).touch()
    found = [file.name for file in newest_first(tmp_path)]
    assert found == ["step-100000000.pt", "step-99999999.pt", "step-00000005.pt"]
