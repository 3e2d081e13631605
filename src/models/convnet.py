"""A convolutional network for pictures, grey or colour: batch normalisation, dropout, and random shifts in training."""

from dataclasses import dataclass

import torch
from torch import Tensor, bincount, nn
from torch.nn import functional

from src.models import Data
from src.schema import key

METRICS = {"accuracy": "correct / count", "loss": "loss / count"}
BEST = "max accuracy"
SHIFT = 2  # pixels that a training picture is moved by at most, up or down and to a side
SMALLEST = 4  # pixels of a side, of which two poolings leave one


@dataclass
class Settings:
    """The keys `model.*`."""

    channels: int = key(8, "channels of the first layer; the next ones have twice and four times as many", minimum=1)
    dropout: float = key(0.2, "share of the features that are left out in training", minimum=0, below=1)


class ConvNet(nn.Module):
    """Three convolutions, each with batch normalisation; two poolings; one linear layer."""

    def __init__(self, shape: tuple[int, ...], channels: int, dropout: float, classes: int) -> None:
        super().__init__()
        *colours, height, width = shape
        self.picture = (colours[0] if colours else 1, height, width)
        self.classes = classes
        self.layers = nn.Sequential(
            *convolution(self.picture[0], channels),
            nn.MaxPool2d(2),
            *convolution(channels, 2 * channels),
            nn.MaxPool2d(2),
            *convolution(2 * channels, 4 * channels),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(4 * channels * (height // 4) * (width // 4), classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(n, *shape) numbers -> (n, classes) logits."""
        logits: Tensor = self.layers(images.view(-1, *self.picture).float() / 255)
        return logits


def convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    """A convolution, which needs no bias before the normalisation that follows."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()


def build(settings: Settings, data: Data) -> ConvNet:
    """For pictures (height, width) or (channels, height, width) in classes. Raises ValueError for other data."""
    if len(data.shape) not in (2, 3) or min(data.shape[-2:]) < SMALLEST or data.classes < 2:
        raise ValueError(
            f"needs pictures of at least {SMALLEST} x {SMALLEST} pixels, in two classes or more; "
            f"these are inputs {data.shape} in {data.classes} classes"
        )
    return ConvNet(data.shape, settings.channels, settings.dropout, data.classes)


def loss(module: ConvNet, images: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """(sum of the losses, number of samples)."""
    return functional.cross_entropy(module(images), labels, reduction="sum"), len(labels)


def measure(module: ConvNet, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Sums over the samples; `confusion[truth][guess]` counts them."""
    logits = module(images)
    guesses, classes = logits.argmax(1), module.classes
    confusion = bincount(labels * classes + guesses, minlength=classes * classes).view(classes, classes)
    losses = functional.cross_entropy(logits, labels, reduction="sum")
    return {"correct": (guesses == labels).sum(), "loss": losses, "confusion": confusion}


def augment(images: Tensor, labels: Tensor, draws: Tensor) -> Tensor:
    """Each picture moved by up to SHIFT pixels either way, by its own two draws; what comes in is 0."""
    height, width = images.shape[-2:]
    places = 2 * SHIFT + 1
    padded = functional.pad(images.flatten(1, -3) if images.dim() > 3 else images[:, None], [SHIFT] * 4)
    windows = padded.unfold(-2, height, 1).unfold(-2, width, 1)  # (n, channels, places, places, height, width)
    down, right = (draws[:, :2] * places).long().unbind(1)
    return windows[torch.arange(len(images), device=images.device), :, down, right].view(images.shape)
