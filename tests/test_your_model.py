"""docs/your-model.md: its patch and its data work as written, bitwise and with a resume."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.run.layout import read_status
from tests.helpers.ranks import ROOT

PAGE = (ROOT / "docs" / "your-model.md").read_text()


def block(language: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert len(found) == 1
    return str(found[0])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the code with the page's patch, and data written by the page's function."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "apply", "--unsafe-paths", "-"], cwd=tmp_path, input=block("diff").encode(), check=True)
    page: dict[str, Any] = {}
    exec(block("python"), page)
    random = np.random.default_rng(0)
    means = random.integers(0, 256, (5, 3, 32, 32))
    raw = tmp_path / "data" / "IDX" / "raw"
    raw.mkdir(parents=True)
    for name, count in (("train", 307), ("t10k", 100)):
        labels = random.integers(0, 5, count)
        images = np.clip(means[labels] + random.integers(-60, 60, (count, 3, 32, 32)), 0, 255)
        page["write_idx"](raw / f"{name}-images-idx3-ubyte", images)
        page["write_idx"](raw / f"{name}-labels-idx1-ubyte", labels)
    return tmp_path


def train(project: Path, ranks: int, *settings: str) -> dict[str, Any]:
    (line,) = re.findall(r"^    torchrun .*-m (src.train .*)$", PAGE, re.MULTILINE)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", "-m"]
    done = subprocess.run(
        [*command, *line.split(), "track.wandb=disabled", *settings],
        cwd=project,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return read_status(project / "runs" / settings[0].partition("=")[2])


def test_the_page_s_model_trains_and_resumes_to_the_same_bits(project: Path) -> None:
    whole = train(project, 1, "run.name=whole", "train.epochs=4")
    assert whole["correct"] > 90
    train(project, 2, "run.name=parts", "train.epochs=2")
    parts = train(project, 3, "run.name=parts", "train.epochs=4")
    assert parts["weights_sha256"] == whole["weights_sha256"]


def test_the_patch_changes_one_file() -> None:
    assert re.findall(r"^\+\+\+ b/(\S+)", block("diff"), re.MULTILINE) == ["src/models/logistic.py"]
