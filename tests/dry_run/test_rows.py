"""What --dry-run says is what the job then does, and it leaves no trace."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from src.dry_run.rows import due, size
from src.run.layout import read_status
from tests.helpers.dry_runs import dry, settings
from tests.helpers.ranks import ROOT, good_job

MORE = ("train.epochs=3", "data.validation=0.1", "checkpoint.every_steps=7", "optim.momentum=0.9")


def number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    assert found, text
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_it_says_is_what_the_job_does(ranks: int, small: str, tmp_path: Path) -> None:
    said = dry(ranks, tmp_path, *settings(small, *MORE))
    assert said["run"] == f"{tmp_path}/runs/x (new)"
    assert said["world"].startswith(f"{ranks} rank")
    assert said["world"].endswith(", on 1 host")
    assert said["data"].startswith("idx: 908 training, 101 validation and 200 test samples; ")
    assert said["steps"] == "15 an epoch, the last with 12 samples; 45 in all (3 epochs)"
    assert number(r"([\d,]+) samples/s", said["speed"]) > 0
    assert "for 45 steps, and 3 evaluations of 101 samples" in said["time"]
    good_job(ranks, tmp_path, *settings(small, *MORE))
    run = tmp_path / "runs" / "x"
    assert read_status(run)["step"] == 45
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    saved = [event["step"] for event in events if event["event"] == "checkpoint"]
    assert said["saves"].startswith(f"{len(saved)} checkpoints of ")
    assert "a kill costs up to 7 steps" in said["saves"]
    real = (run / "checkpoints" / "step-00000045.pt").stat().st_size
    assert number(r"of ([\d.]+) kB", said["saves"]) * 1000 == pytest.approx(real, rel=0.03)
    assert number(r"weights ([\d.]+) kB", said["memory"]) * 1000 == pytest.approx(31400, rel=0.01)
    assert number(r"optimizer ([\d.]+) kB", said["memory"]) * 1000 == pytest.approx(31400, rel=0.01)


@pytest.mark.parametrize("by_status", [False, True])
def test_under_the_launcher(by_status: bool, small: str, tmp_path: Path) -> None:
    words = ["launch/local.sh", "2"]
    if by_status:
        words = [sys.executable, "-m", "launch.torchrun", "--by-status", "--standalone", "--nproc-per-node=2"]
        words += ["-m", "src.train"]
    chosen = ["--dry-run", "data.validation=0.1", *settings(small, f"run.root={tmp_path / 'runs'}")]
    variables = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*words, *chosen], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("dry run  nothing is written\nworld    2 ranks, ")
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_how_many_steps_are_due() -> None:
    assert due(0, 10) == 1
    assert due(0, 10, 5) == 2
    assert due(0, 10, 4, 5) == 4
    assert due(5, 10, 5, 0) == 1
    assert due(10, 10, 5) == 0


def test_sizes() -> None:
    assert [size(count) for count in (0, 999, 31_400, 2.5e9)] == ["0 bytes", "999 bytes", "31.4 kB", "2.5 GB"]
