"""Which checkpoint training goes on from: the newest good one, another run's weights, and what does not fit."""

from pathlib import Path

import pytest
import torch

from src.run import archive, jsonl
from src.run import choosing as choosing
from src.run.layout import read_status
from tests.helpers.ranks import Job
from tests.helpers.short_runs import job


def names(job: Job) -> list[str]:
    return sorted(file.name for file in (job.run / "checkpoints").iterdir())


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
