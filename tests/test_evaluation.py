"""Exact counts over the whole test set, on the raw module."""

import pytest
import torch
from torch import nn

from src import evaluation
from src.data.dataset import Split
from src.evaluation import Metrics, evaluate, predict
from src.models import logistic


def split(samples: int) -> Split:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (samples, logistic.PIXELS), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(0, logistic.CLASSES, (samples,), generator=generator))


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_counts_and_loss_are_those_of_one_batch(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is evaluated at once; 103 samples are no multiple of 10."""
    module, data = logistic.build(1), split(103)
    monkeypatch.setattr(evaluation, "SAMPLES_AT_ONCE", 10)
    found = evaluate(module, data, loss)
    with torch.no_grad():
        logits = predict(module, data.images)
        summed = logistic.loss_function(loss)(logits, logistic.targets(data.labels, loss))
    assert found.count == 103
    assert found.correct == int((logits.argmax(1) == data.labels).sum())
    assert found.loss == pytest.approx(float(summed) / 103, rel=1e-6)


def test_confusion_is_truth_by_guess() -> None:
    class Always(nn.Module):
        """Guesses 3."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return nn.functional.one_hot(torch.full((len(images),), 3), logistic.CLASSES).float()

    data = split(50)
    found = evaluate(Always(), data, "cross_entropy")
    counts = torch.bincount(data.labels, minlength=10).tolist()
    assert [row[3] for row in found.confusion] == counts
    assert sum(map(sum, found.confusion)) == 50
    assert found.correct == counts[3]


@pytest.mark.parametrize("training", [True, False])
def test_the_module_keeps_its_mode_and_evaluates_without_dropout(training: bool) -> None:
    module = nn.Sequential(nn.Dropout(0.9), logistic.build(1)).train(training)
    assert evaluate(module, split(40), "bce") == evaluate(module[1], split(40), "bce")
    assert module.training == training
    assert all(parameter.grad is None for parameter in module.parameters())


def test_metrics_for_people_and_for_the_record() -> None:
    metrics = Metrics(1, 3, 0.5, [[1, 0], [2, 0]])
    assert str(metrics) == "1/3 = 33.33 %"
    assert metrics.as_dict()["accuracy"] == 1 / 3


def test_pixels_are_scaled_to_one() -> None:
    seen: list[torch.Tensor] = []

    class Sees(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return images

    images = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    predict(Sees(), images)
    assert seen[0].tolist() == [[0.0, pytest.approx(0.2), 1.0]]
    assert images.tolist() == [[0, 51, 255]], "the data set is left as it is"
