"""What the model's `measure` returns is added exactly over the whole test set."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src import models
from src.data.splits import Split
from src.evaluation import measure as measuring
from src.evaluation.measure import Interrupted, evaluate
from tests.helpers.bare_models import SPEC, logistic


def split(samples: int) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (samples, 28, 28), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(0, 10, (samples,), generator=generator))


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_sums_are_those_of_one_batch(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is evaluated at once; 103 samples are no multiple of 10."""
    model, data = logistic(loss), split(103)
    module = model.build(SPEC, 1)
    monkeypatch.setattr(measuring, "SAMPLES_AT_ONCE", 10)
    found = evaluate(model, module, data)
    with torch.no_grad():
        sums = model.measure(module, data.inputs[:], data.targets[:])
    assert found.count == 103
    assert found.sums["correct"] == int(sums["correct"])
    assert found.values["loss"] == pytest.approx(float(sums["loss"]) / 103, rel=1e-6)
    assert found.tables["confusion"] == sums["confusion"].tolist()
    assert (found.best, found.higher_is_better) == ("accuracy", True)


@pytest.mark.parametrize("training", [True, False])
def test_the_module_keeps_its_mode_and_evaluates_without_dropout(training: bool, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "def build(settings, data):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(784, 10))\n"
        "def loss(module, inputs, targets):\n"
        "    return nn.functional.cross_entropy(module(inputs.float()), targets, reduction='sum'), len(targets)\n"
    )
    model = models.load(file, {})
    module = model.build(SPEC, 0).train(training)
    assert evaluate(model, module, split(40)) == evaluate(model, module, split(40))
    assert module.training == training
    assert all(parameter.grad is None for parameter in module.parameters())


def test_an_interrupted_evaluation_leaves_the_module_training() -> None:
    model = logistic()
    module = model.build(SPEC, 0)
    with pytest.raises(Interrupted):
        evaluate(model, module, split(40), lambda: True)
    assert module.training


def test_whole_numbers_are_added_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    """float32 cannot count beyond 2**24."""
    model = logistic()

    def measure(module: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"correct": torch.tensor(2**24 + 1, dtype=torch.int32), "loss": torch.tensor(0.1)}

    monkeypatch.setattr(model.module, "measure", measure)
    monkeypatch.setattr(measuring, "SAMPLES_AT_ONCE", 10)
    assert evaluate(model, model.build(SPEC, 0), split(40)).sums["correct"] == 4 * (2**24 + 1)


def test_one_rank_alone_keeps_no_sums_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A split of a billion samples has a million chunks."""
    monkeypatch.setattr(measuring, "SAMPLES_AT_ONCE", 10)
    model = logistic()
    alone, shared = (
        measuring.measure_part(model, model.build(SPEC, 1), split(100), lambda: False, 0, ranks) for ranks in (1, 2)
    )
    assert (len(alone.floats), len(shared.floats)) == (1, 5)
