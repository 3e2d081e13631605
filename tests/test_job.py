"""The parts of a job in order: what is refused before anything is written, and what is printed."""

from pathlib import Path

import pytest

from src.run import jsonl
from src.run.layout import read_status
from tests.helpers.ranks import good_job, run_job


def settings(small: str, *more: str) -> tuple[str, ...]:
    return ("data.name=idx", f"data.root={small}", "train.epochs=2", "run.name=x", *more)


def test_the_last_line_does_not_read_like_a_start(small: str, tmp_path: Path) -> None:
    lines = good_job(1, tmp_path, *settings(small)).output.splitlines()
    assert lines[0] == "training on idx"
    assert lines[-1].startswith("next     python -m src.")
    assert lines[-2].startswith("saved    ")
    assert lines[-2].endswith("report.html")


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "."])
def test_a_run_s_name_is_no_path(name: str, small: str, tmp_path: Path) -> None:
    refused = run_job(2, tmp_path, *settings(small), f"run.name={name}")
    assert refused.codes == [2, 2]
    assert refused.output == (
        f"error: run.name={name}: must be the name of a folder, not a path; run.root= says where it is\n"
    )
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_checkpoint_s_name_means_a_file_and_nothing_else(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = good_job(1, tmp_path, *settings(small))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").write_bytes((first.run / "checkpoints" / "best.pt").read_bytes())
    taken = good_job(1, tmp_path, *settings(small), "run.name=y", "checkpoint.resume=own")
    assert "(weights of own)" in taken.output
    assert next(jsonl.read(taken.run / "events.jsonl"))["event"] == "start"


def test_an_evaluation_is_repeated_after_a_kill_and_recorded_once(small: str, tmp_path: Path) -> None:
    """The checkpoint of an epoch is written before its evaluation."""
    whole = good_job(1, tmp_path / "whole", *settings(small, "train.sync=bitwise"))
    killed = run_job(2, tmp_path, *settings(small, "train.sync=bitwise"), fault="renamed@1")
    assert -9 in killed.codes
    kinds = {line["kind"] for line in jsonl.read(tmp_path / "runs" / "x" / "metrics.jsonl")}
    assert "test" not in kinds, "it was killed before the evaluation"
    resumed = good_job(1, tmp_path, *settings(small, "train.sync=bitwise"))
    assert "(resumed at step 16, 2 ranks before)" in resumed.output
    tests = [line for line in jsonl.read(resumed.run / "metrics.jsonl") if line["kind"] == "test"]
    assert tests == [line for line in jsonl.read(whole.run / "metrics.jsonl") if line["kind"] == "test"]
    assert read_status(resumed.run)["weights_sha256"] == read_status(whole.run)["weights_sha256"]
