"""What the loop asks: whether it is over, and that what is repeated after a kill is recorded once."""

from pathlib import Path

from src.run import jsonl
from src.run.layout import read_status
from tests.helpers.ranks import good_job, run_job


def settings(small: str, *more: str) -> tuple[str, ...]:
    return ("data.name=idx", f"data.root={small}", "train.epochs=2", "run.name=x", *more)


def test_an_evaluation_is_repeated_after_a_kill_and_recorded_once(small: str, tmp_path: Path) -> None:
    """The checkpoint of an epoch is written before its evaluation."""
    whole = good_job(1, tmp_path / "whole", *settings(small, "train.sync=bitwise"))
    killed = run_job(2, tmp_path, *settings(small, "train.sync=bitwise"), fault="renamed@1")
    assert -9 in killed.codes
    resumed = good_job(1, tmp_path, *settings(small, "train.sync=bitwise"))
    assert "(resumed at step 16, 2 ranks before)" in resumed.output
    tests = [line for line in jsonl.read(resumed.run / "metrics.jsonl") if line["kind"] == "test"]
    assert tests == [line for line in jsonl.read(whole.run / "metrics.jsonl") if line["kind"] == "test"]
    assert read_status(resumed.run)["weights_sha256"] == read_status(whole.run)["weights_sha256"]
