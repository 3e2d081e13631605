"""A convolutional network for colour pictures, as a user would bring it from elsewhere: a file outside the tree."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

METRICS = {"top1": "right / count", "nll": "nll / count"}
BEST = "max top1"


@dataclass
class Settings:
    """The keys `model.*`."""

    channels: int = 8


class Colours(nn.Module):
    """A convolution, BatchNorm, dropout and a linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, channels, 3, 2), nn.BatchNorm2d(channels), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(channels, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(pictures.float() / 255 - 0.5).mean((2, 3)))
        return logits


def build(settings: Settings, data: object) -> Colours:
    return Colours(settings.channels, data.classes)  # type: ignore[attr-defined]


def loss(module: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    return functional.cross_entropy(module(inputs), targets, reduction="sum"), len(targets)


def measure(module: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    logits = module(inputs)
    guesses, classes = logits.argmax(1), logits.shape[1]
    return {
        "right": (guesses == targets).sum(),
        "nll": functional.cross_entropy(logits, targets, reduction="sum"),
        "confusion": torch.bincount(targets * classes + guesses, minlength=classes**2).view(classes, classes),
    }
