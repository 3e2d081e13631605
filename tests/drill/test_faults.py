"""Each fault hits the checkpoint of its number, and no other."""

import signal
from pathlib import Path

import pytest

from src.run import jsonl
from src.run.run import read_status
from tests.helpers.ranks import run_job


def settings(small: str) -> tuple[str, ...]:
    return ("data.name=idx", f"data.root={small}", "train.epochs=1", "checkpoint.every_steps=5", "run.name=r")


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        ("writing@2", {"step-00000005.pt", ".part"}),
        ("sealing@2", {"step-00000005.pt", ".part"}),
        ("renamed@2", {"step-00000005.pt", "step-00000010.pt"}),
    ],
)
def test_a_kill_strikes_the_second_checkpoint(fault: str, left: set[str], small: str, tmp_path: Path) -> None:
    job = run_job(1, tmp_path, *settings(small), fault=fault)
    assert job.codes == [-signal.SIGKILL]
    files = (job.run / "checkpoints").iterdir()
    assert {".part" if file.name.endswith(".part") else file.name for file in files} == left


def test_a_full_disk_costs_the_second_checkpoint_alone(small: str, tmp_path: Path) -> None:
    job = run_job(1, tmp_path, *settings(small), fault="full@2")
    assert job.codes == [0]
    events = [event for event in jsonl.read(job.run / "events.jsonl") if "checkpoint" in event["event"]]
    assert [(event["event"], event["step"]) for event in events[:3]] == [
        ("checkpoint", 5),
        ("checkpoint failed", 10),
        ("checkpoint", 15),
    ]
    assert read_status(job.run)["state"] == "finished"


def test_an_unknown_fault_is_refused(tmp_path: Path) -> None:
    job = run_job(1, tmp_path, fault="wishing@1")
    assert job.codes == [70]
    assert "KeyError: 'wishing'" in job.output
