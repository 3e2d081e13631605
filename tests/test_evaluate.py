"""`python -m src.evaluate`: a run is evaluated again, on its own data or on others, and not changed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src.run import archive
from src.run.layout import read_status
from tests.helpers.commands import command
from tests.helpers.data_sets import write_data_set, write_idx


def test_it_prints_the_result_of_training_again(best: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in best.rglob("*")}
    done = command("src.evaluate", str(best))
    status = read_status(best)
    last, loss = f"test  {status['correct']}/10000 = ", f"loss {status['loss']:.4f}"
    assert last in done.stdout, done.stderr
    assert done.stdout.rstrip().endswith(loss)
    assert {file: file.stat().st_mtime_ns for file in best.rglob("*")} == before


def test_other_data_and_the_written_file(best: Path, small: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(best, run)
    done = command("src.evaluate", str(run), "data.name=idx", "--write", f"data.root={small}")
    assert "on idx\ntest  " in done.stdout, done.stderr
    written = json.loads((run / "evaluation-idx.json").read_text())
    assert f"test  {written['correct']}/200 = " in done.stdout
    assert written["checkpoint"] == "best.pt"


def wrong_shape(root: Path) -> None:
    write_data_set(root / "IDX" / "raw", 10, 10)
    write_idx(root / "IDX" / "raw" / "t10k-images-idx3-ubyte", torch.zeros(10, 32, 32, dtype=torch.uint8))


def truncated(root: Path) -> None:
    write_data_set(root / "IDX" / "raw", 10, 10)
    os.truncate(root / "IDX" / "raw" / "t10k-labels-idx1-ubyte", 9)


@pytest.mark.parametrize(
    ("setting", "make", "said"),
    [
        ("data.fallback=digits", lambda _: None, "put your files into"),
        (
            "data.fallback=digits",
            wrong_shape,
            "the training inputs are (28, 28) uint8, those of the test set (32, 32) uint8",
        ),
        ("data.fallback=digits", truncated, "truncated or damaged"),
        ("data.name=emnist", lambda _: None, "data.name=emnist: must be one of mnist, "),
        ("model.loss=bce", lambda _: None, "only data.* may differ from the run's settings"),
    ],
)
def test_data_that_does_not_fit(
    setting: str, make: Callable[[Path], object], said: str, best: Path, tmp_path: Path
) -> None:
    make(tmp_path)
    done = command("src.evaluate", str(best), "data.name=idx", f"data.root={tmp_path}", setting)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_weights_of_another_model_or_none(best: Path, tmp_path: Path) -> None:
    for name, content in (("model", {"layer.weight": torch.zeros(2, 2)}), ("nothing", None)):
        run = tmp_path / name
        (run / "checkpoints").mkdir(parents=True)
        shutil.copy(best / "config.yaml", run)
        if content:
            archive.write(run / "checkpoints" / "best.pt", {"format": 1, "model": content})
    done = command("src.evaluate", str(tmp_path / "model"))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "do not fit " in done.stderr
    assert "has no weights yet" in command("src.evaluate", str(tmp_path / "nothing")).stderr
