"""How good the weights are: exact counts over the whole test set, on the raw module."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from src.data.dataset import Split
from src.models import logistic

SAMPLES_AT_ONCE = 1000


class Interrupted(Exception):
    """The evaluation was asked to stop before its end."""


@dataclass(frozen=True)
class Metrics:
    """Counts over a data set, and the mean loss. `confusion[truth][guess]` adds up to `count`."""

    correct: int
    count: int
    loss: float
    confusion: list[list[int]]

    def __str__(self) -> str:
        return f"{self.correct}/{self.count} = {100 * self.correct / self.count:.2f} %"

    @property
    def deciding(self) -> float:
        """The value that decides which weights are the best."""
        return float(self.correct)

    @property
    def higher_is_better(self) -> bool:
        """Whether the best value is the highest."""
        return True

    def as_dict(self) -> dict[str, Any]:
        """For metrics.jsonl."""
        return {
            "correct": self.correct,
            "count": self.count,
            "accuracy": self.correct / self.count,
            "loss": self.loss,
            "confusion": self.confusion,
        }


@torch.no_grad()
def evaluate(module: nn.Module, split: Split, loss: str, interrupted: Callable[[], bool] = lambda: False) -> Metrics:
    """Count what the module gets right; leaves it in the mode it was in. Raises Interrupted."""
    was_training = module.training
    module.eval()
    criterion = logistic.loss_function(loss)
    confusion = torch.zeros(logistic.CLASSES * logistic.CLASSES, dtype=torch.int64, device=split.labels.device)
    summed = torch.zeros((), dtype=torch.float64, device=split.labels.device)
    for start in range(0, len(split), SAMPLES_AT_ONCE):
        if interrupted():
            module.train(was_training)
            raise Interrupted
        labels = split.labels[start : start + SAMPLES_AT_ONCE]
        logits = predict(module, split.images[start : start + SAMPLES_AT_ONCE])
        summed += criterion(logits, logistic.targets(labels, loss)).double()
        pairs = labels * logistic.CLASSES + logits.argmax(1)
        confusion += torch.bincount(pairs, minlength=logistic.CLASSES * logistic.CLASSES)
    module.train(was_training)
    table = confusion.view(logistic.CLASSES, logistic.CLASSES)
    return Metrics(int(table.trace()), len(split), float(summed) / len(split), table.tolist())


def predict(module: nn.Module, images: Tensor) -> Tensor:
    """Logits (n, CLASSES) of images (n, PIXELS) uint8."""
    logits: Tensor = module(images.float().div_(255))
    return logits
