"""A model's file that breaks the contract is named in one line; what it raises is shown as it is."""

from pathlib import Path
from typing import Any

import pytest
import torch

from src import models
from src.data.splits import Spec
from src.errors import ModelFailed, UserError
from src.run import jsonl
from src.run.layout import read_status
from tests.helpers.ranks import good_job, run_job

SPEC = Spec((4,), torch.uint8, 3)
HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional\n"
BUILD = "def build(settings, data):\n    return nn.Linear(4, 3)\n"
LOSS = (
    "def loss(module, inputs, targets):\n"
    "    return functional.cross_entropy(module(inputs.float()), targets, reduction='sum'), len(targets)\n"
)
MEASURE = "def measure(module, inputs, targets):\n    return {'seen': len(targets), 'loss': torch.tensor(1.0)}\n"


def loaded(folder: Path, *parts: str) -> models.Model:
    """A file of these parts, loaded."""
    (folder / "mine.py").write_text("\n".join([HEAD, *parts]))
    return models.load(folder / "mine.py", {})


def tried(folder: Path, *parts: str) -> Any:
    """... built and tried on two samples."""
    model = loaded(folder, *parts)
    module = model.build(SPEC, 0)
    model.check(module, torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    return model


def function(name: str, result: str) -> str:
    return f"def {name}(module, inputs, targets):\n    return {result}\n"


BROKEN = [
    ((LOSS,), "build: is missing", "a function of 2 arguments"),
    ((BUILD,), "loss: is missing", "a function of 3 arguments"),
    (("build = 3", LOSS), "build: is a int", "a function of 2 arguments"),
    (("def build(data):\n    return None", LOSS), "build: has the signature (data)", "2 arguments"),
    (("def build(settings, data):\n    return 3", LOSS), "build: returned a int", "an nn.Module"),
    (("def build(settings, data):\n    return nn.ReLU()", LOSS), "without parameters to train", "at least one"),
    ((BUILD, function("loss", "torch.tensor(1.0)")), "loss: returned a tensor", "(sum"),
    ((BUILD, function("loss", "torch.ones(3), 3")), "a tensor (3,) of float32", "a float"),
    ((BUILD, function("loss", "3.0, 3")), "returned a float as the sum", "a float tensor"),
    ((BUILD, function("loss", "torch.tensor(1.0), None")), "as the number of", "a number"),
    ((BUILD, LOSS, function("measure", "3")), "measure: returned a int", "a dict"),
    ((BUILD, LOSS, function("measure", "{'a': 'b'}")), "returned a str as a", "a tensor"),
    ((BUILD, LOSS, function("measure", "{'count': 1}")), "returned count", "another name"),
    ((BUILD, LOSS, "augment = 3"), "augment: is a int", "a function of 3 arguments"),
    (
        (BUILD, LOSS, MEASURE, "METRICS = {'a': 'seen / tokens'}"),
        "METRICS: has a: 'seen / tokens'",
        "both of seen, loss",
    ),
    ((BUILD, LOSS, MEASURE, "METRICS = ['a']"), "METRICS: is a list", "a dict such as"),
    ((BUILD, LOSS, MEASURE, "BEST = 'accuracy'"), "BEST: is 'accuracy'", "'max' or 'min' and one of seen, loss"),
    ((BUILD, LOSS, MEASURE, "BEST = 'max accuracy'"), "BEST: is 'max accuracy'", "one of seen, loss"),
]


@pytest.mark.parametrize(("parts", "found", "expected"), BROKEN)
def test_what_breaks_the_contract_is_named(parts: tuple[str, ...], found: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        tried(tmp_path, *parts)
    assert str(error.value).startswith(f"{tmp_path / 'mine.py'}: ")
    assert found in error.value.message
    assert expected in error.value.fix
    assert error.value.fix.endswith("(docs/your-model.md)")


def test_the_least_file_is_whole(tmp_path: Path) -> None:
    model = tried(tmp_path, BUILD, LOSS)
    assert model.metrics(["loss", "items"]) == {"loss": ("loss", "items")}
    assert model.best(["loss"]) == ("loss", False)
    assert not model.augments


def test_without_metrics_each_sum_is_divided_by_the_samples(tmp_path: Path) -> None:
    model = tried(tmp_path, BUILD, LOSS, MEASURE)
    assert model.metrics(["seen", "loss"]) == {"seen": ("seen", "count"), "loss": ("loss", "count")}
    assert model.best(["seen", "loss"]) == ("loss", False)


def test_a_new_sum_is_a_new_metric(tmp_path: Path) -> None:
    """One line in `measure`; METRICS names only what is divided otherwise."""
    model = tried(tmp_path, BUILD, LOSS, MEASURE, "METRICS = {'mean': 'loss / seen'}", "BEST = 'min mean'")
    assert model.metrics(["seen", "loss"]) == {"mean": ("loss", "seen")}
    assert model.metrics(["seen", "loss", "top3"]) == {"mean": ("loss", "seen"), "top3": ("top3", "count")}


def test_what_the_file_raises_is_shown_from_its_own_first_line(tmp_path: Path) -> None:
    model = loaded(tmp_path, BUILD, "def loss(module, inputs, targets):\n    return 1 / 0, 1\n")
    with pytest.raises(ModelFailed) as error:
        model.loss(model.build(SPEC, 0), torch.zeros(2, 4), torch.zeros(2))
    assert str(error.value) == "ZeroDivisionError: division by zero"
    lines = error.value.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].startswith(f'  File "{tmp_path / "mine.py"}", line ')
    assert lines[-1] == "ZeroDivisionError: division by zero"


def test_decay_is_for_matrices_alone(tmp_path: Path) -> None:
    model = tried(tmp_path, BUILD, LOSS)
    module = model.build(SPEC, 0)
    decayed, others = model.parameter_groups(module, decay=True)
    assert [parameter.shape for parameter in decayed["params"]] == [(3, 4)]
    assert [parameter.shape for parameter in others["params"]] == [(3,)]
    assert others["weight_decay"] == 0
    assert len(model.parameter_groups(module, decay=False)) == 1


PICTURES = """
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional
@dataclass
class Settings:
    factor: float = 1.0
class Net(nn.Module):
    def __init__(self, data, factor):
        super().__init__()
        self.linear = nn.Linear(784, data.classes)
        self.factor = factor
    def forward(self, images):
        logits = self.linear(images.flatten(1).float() / 255) * self.factor
        return logits
def build(settings, data):
    return Net(data, settings.factor)
def loss(module, images, labels):
    return functional.cross_entropy(module(images), labels, reduction="sum"), len(labels)
def measure(module, images, labels):
    if FAIL_MEASURE: raise RuntimeError("no measure")
    logits = module(images)
    losses = functional.cross_entropy(logits, labels, reduction="sum")
    return {"right": (logits.argmax(1) == labels).sum(), "loss": losses}
METRICS = {"right": "right / count", "loss": "loss / count"}
BEST = "max right"
FAIL_MEASURE = False
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(PICTURES)
    return file


def settings(small: str, mine: Path, *more: str) -> tuple[str, ...]:
    return ("data.name=idx", f"data.root={small}", f"model.name={mine}", "train.epochs=2", *more)


def test_a_file_outside_the_tree_trains_and_resumes(small: str, mine: Path, tmp_path: Path) -> None:
    first = good_job(2, tmp_path, *settings(small, mine, "model.factor=2"))
    assert "test  " in first.output
    status = read_status(first.run)
    last = list(jsonl.read(first.run / "metrics.jsonl"))[-1]
    assert (status["count"], status["right"]) == (200, last["right"])
    resumed = good_job(1, tmp_path, *settings(small, mine, "model.factor=2", "train.epochs=3"))
    assert resumed.run == first.run
    assert "(resumed at step 32, 2 ranks before)" in resumed.output


def test_an_edited_file_is_another_run(small: str, mine: Path, tmp_path: Path) -> None:
    first = good_job(1, tmp_path, *settings(small, mine))
    mine.write_text("# only a comment\n" + PICTURES)
    assert "is finished" in good_job(1, tmp_path, *settings(small, mine)).output
    mine.write_text(PICTURES.replace("return logits\n", "return logits * 1.5\n", 1))
    second = good_job(1, tmp_path, *settings(small, mine))
    assert second.run != first.run
    assert "(new)" in second.output


def test_a_named_run_refuses_an_edited_file_and_says_what_changed(small: str, mine: Path, tmp_path: Path) -> None:
    named = settings(small, mine, "run.name=x")
    first = good_job(1, tmp_path, *named)
    before = {file: file.read_bytes() for file in first.run.rglob("*") if file.is_file() and file.name != "lock"}
    mine.write_text(PICTURES.replace("return logits\n", "return logits * 1.5\n", 1))
    refused = run_job(2, tmp_path, *named, "train.epochs=4")
    assert refused.codes == [2, 2]
    copy = first.run / "model" / "mine.py"
    assert f"({mine} was edited: diff {copy} {mine}); give the old ones, another run.name" in refused.output
    assert {file: file.read_bytes() for file in before} == before
    weights = first.run / "checkpoints" / "best.pt"
    taken = good_job(1, tmp_path, *settings(small, mine, "run.name=y", f"checkpoint.resume={weights}"))
    assert "is of another version of the model's file; its weights are taken" in taken.output


def test_a_model_that_fails_in_its_first_evaluation_has_lost_nothing(small: str, mine: Path, tmp_path: Path) -> None:
    mine.write_text(PICTURES.replace("if FAIL_MEASURE", "if len(labels) > 2"))
    failed = run_job(2, tmp_path, *settings(small, mine, "run.name=x"))
    assert 1 in failed.codes
    assert failed.output.count("RuntimeError: no measure") >= 1
    assert "src/evaluation/" not in failed.output
    status = read_status(failed.run)
    assert (status["state"], status["reason"], status["step"]) == ("failed", "RuntimeError: no measure", 16)
    assert (failed.run / "checkpoints" / "step-00000016.pt").exists()


def test_a_broken_contract_is_told_before_anything_is_written(small: str, mine: Path, tmp_path: Path) -> None:
    mine.write_text(PICTURES.replace("def loss(module, images, labels)", "def loss(module, images)"))
    refused = run_job(2, tmp_path, *settings(small, mine, "run.name=x"))
    assert refused.codes == [2, 2]
    assert f"error: {mine}: loss: has the signature (module, images); expected 3 arguments" in refused.output
    assert refused.output.count("\n") == 1
    assert not (tmp_path / "runs" / "x").exists()


@pytest.mark.parametrize(
    ("setting", "advice"),
    [
        ("model.facto=2", "model.facto=2: unknown key; did you mean model.factor?"),
        ("model.factor=much", "model.factor=much: must be a number"),
        ("model.name=mine", "model.name=mine: no such model; write one of"),
    ],
)
def test_mistakes_in_the_model_s_settings(setting: str, advice: str, small: str, mine: Path, tmp_path: Path) -> None:
    refused = run_job(1, tmp_path, *settings(small, mine, setting))
    assert refused.codes == [2]
    assert f"error: {advice}" in refused.output


def test_a_model_refuses_data_by_a_value_error_of_its_own(tmp_path: Path) -> None:
    """One line; what it calls may raise a ValueError too, and that is a fault with a traceback."""
    file = tmp_path / "mine.py"
    for code, kind in (("raise ValueError('needs grey pictures')", UserError), ("int('x')", ModelFailed)):
        file.write_text(f"import json\ndef build(settings, data):\n    {code}\ndef loss(module, x, y):\n    return 0\n")
        with pytest.raises(kind, match="needs grey pictures" if kind is UserError else "invalid literal"):
            models.load(file, {}).build(SPEC, 0)


def test_lazy_layers_get_their_shapes_from_the_first_samples(tmp_path: Path) -> None:
    build = "def build(settings, data):\n    return nn.LazyLinear(3)\n"
    loss = "def loss(module, inputs, targets):\n    return module(inputs.float()).sum(), len(targets)\n"
    spec = Spec((4,), torch.uint8, 0, (2,), torch.float32)
    made = []
    for _ in range(2):
        model = loaded(tmp_path, build, loss)
        module = model.build(spec, 0)
        model.check(module, torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(2, 2))
        made.append(module.weight)
    assert made[0].shape == (3, 4)
    assert torch.equal(made[0], made[1])  # type: ignore[arg-type]
