"""docs/your-model.md and docs/your-data.md: their examples are written to files outside the tree, and do all of it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.run import jsonl
from src.run.layout import read_status
from tests.helpers import commands
from tests.helpers.data_sets import mnist_mirrors
from tests.helpers.ranks import ROOT

MODEL, DATA = ((ROOT / "docs" / name).read_text() for name in ("your-model.md", "your-data.md"))
EXAMPLES = {
    str(name): str(code) for code, name in re.findall(r"```python\n(# examples/(\w+)\.py\n.*?)```", MODEL, re.DOTALL)
}
RANDOM = np.random.default_rng(0)
Arrays = tuple[Any, Any]


MEANS = RANDOM.integers(0, 256, (20, 3, 12, 12))


def pictures(count: int) -> Arrays:
    """Colour pictures in 20 classes, each with a mean of its own."""
    labels = np.concatenate([np.arange(20), RANDOM.integers(0, 20, count - 20)]).astype(np.uint8)
    noise = RANDOM.integers(-40, 40, (count, 3, 12, 12))
    return np.clip(MEANS[labels] + noise, 0, 255).astype(np.uint8), labels


def tokens(count: int) -> Arrays:
    """Lines that count upwards from a random letter, padded with zeros to 12 bytes."""
    lengths, starts = RANDOM.integers(4, 13, (count, 1)), RANDOM.integers(65, 91, (count, 1))
    line = (starts + np.arange(13)) * (np.arange(13) < lengths)
    return line[:, :-1].astype(np.uint8), line[:, 1:].astype(np.uint8)


def regression(count: int) -> Arrays:
    """The mean of the left and of the right half."""
    images = (RANDOM.random((count, 8, 8)) * RANDOM.integers(1, 256, (count, 1, 1))).astype(np.uint8)
    halves = [images[:, :, :4].mean((1, 2)), images[:, :, 4:].mean((1, 2))]
    return images, np.stack(halves, 1).astype(np.float32) / 128


SETS: dict[str, Callable[[int], Arrays]] = {"pictures": pictures, "tokens": tokens, "regression": regression}
BETTER = {"pictures": ("accuracy", 0.5), "tokens": ("right", 0.5), "regression": ("error", 0.15)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder outside the tree with the page's files, and a data set for each."""
    page: dict[str, Any] = {}
    (code,) = re.findall(r"```python\n(.*?)```", DATA, re.DOTALL)
    exec(code, page)
    (tmp_path / "examples").mkdir()
    for name, text in EXAMPLES.items():
        (tmp_path / "examples" / f"{name}.py").write_text(text)
        raw = tmp_path / name / "IDX" / "raw"
        raw.mkdir(parents=True)
        for split, count in (("train", 1000), ("t10k", 200)):
            inputs, targets = SETS[name](count)
            page["write_idx"](raw / f"{split}-images-idx3-ubyte", inputs)
            page["write_idx"](raw / f"{split}-labels-idx1-ubyte", targets)
    return tmp_path


def command(project: Path, *words: str) -> str:
    """Run `python -m ...` of the checkout in the project's folder; what it printed; torchrun has its own process."""
    variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if words[0].startswith("src."):
        done = commands.command(words[0], *words[1:], environment=variables, where=project)
    else:
        done = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=project,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


def train(project: Path, name: str, ranks: int, *settings: str) -> dict[str, Any]:
    """The page's own line for the example, on its data set; status.json."""
    pattern = rf"^    torchrun --nproc_per_node=2 -m (src.train model.name=examples/{name}.py .*)$"
    (line,) = re.findall(pattern, MODEL, re.MULTILINE)
    start = ["torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}", "-m"] if ranks > 1 else []
    fixed = [f"data.root={name}", "track.wandb=disabled", "log.every=5"]
    command(project, *start, *line.split(), *fixed, *settings)
    return read_status(project / "runs" / settings[0].partition("=")[2])


def test_the_page_has_three_examples_of_less_than_sixty_lines() -> None:
    assert EXAMPLES.keys() == SETS.keys()
    assert all(len(text.splitlines()) < 60 for text in EXAMPLES.values())


@pytest.mark.parametrize(
    "name", ["pictures", *(pytest.param(name, marks=pytest.mark.slow(seconds=20)) for name in ("tokens", "regression"))]
)
def test_an_example_does_all_that_the_page_promises(name: str, project: Path) -> None:
    whole = train(project, name, 1, "run.name=whole", "train.epochs=6", "train.global_batch_size=20")
    metric, limit = BETTER[name]
    assert (whole[metric] < limit) if metric == "error" else (whole[metric] > limit), whole
    train(project, name, 2, "run.name=parts", "train.epochs=3", "train.global_batch_size=20")
    parts = train(project, name, 1, "run.name=parts", "train.epochs=6", "train.global_batch_size=20")
    if name == "pictures":  # bitwise
        assert parts["weights_sha256"] == whole["weights_sha256"]
    losses = [
        [line["loss"] for line in jsonl.read(project / "runs" / run / "metrics.jsonl")] for run in ("whole", "parts")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3), "one curve on any number of ranks"
    run = "runs/whole"
    assert f"{metric}" in command(project, "src.evaluate", run) or name == "pictures"
    assert "model.safetensors" in command(project, "src.export", run, "--to", "safetensors")
    assert "report.html" in command(project, "src.report", run)
    assert (project / run / "model" / f"{name}.py").read_text() == EXAMPLES[name]


def test_every_name_of_the_contract_is_in_the_table() -> None:
    from src import models

    table = set(re.findall(r"^\| `(\w+)` \|", MODEL, re.MULTILINE))
    assert table == {*models.REQUIRED, *models.OPTIONAL, "Settings", "METRICS", "BEST"} - set()


@pytest.mark.slow(seconds=60)
def test_the_quick_tests_pass_in_a_copy_of_the_tree_with_another_default_model(tmp_path: Path) -> None:
    """Tests name the model that they test: a user who replaces the default keeps a green suite."""
    for name in ("src", "launch", "configs", "docs", "tests", "README.md", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "src" / "models" / "pictures.py").write_text(EXAMPLES["pictures"])
    schema = tmp_path / "src" / "schema.py"
    schema.write_text(schema.read_text().replace('key("logistic", ', 'key("pictures", ', 1))
    assert 'key("pictures", ' in schema.read_text()
    chosen = ["data", "gradients", "models", "run", "world", "evaluation", "test_config.py", "test_train.py"]
    options = ["-q", "-n", "2", "-p", "no:cacheprovider", "-m", "not slow", "-k", "not is_the_default"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"tests/{name}" for name in chosen)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        | {"MNIST_MIRROR": mnist_mirrors()[0], "IMAGE_COMMIT": "0" * 40},  # there is no .git
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
