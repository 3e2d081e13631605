"""A residual network with all that makes a step depend on more than its samples: a file outside the tree.

BatchNorm, dropout, LayerNorm, an embedding, shared and frozen and unused weights, buffers of several types, two
outputs, a loss whose items are not the samples, layers that are left out by Python's and by numpy's random numbers.
"""

import random
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor, nn
from torch.nn import functional

METRICS = {"top1": "correct / count", "mirrored": "mirrored / count", "nll": "loss / weight"}
BEST = "max top1"


@dataclass
class Settings:
    width: int = 8
    dropout: float = 0.2
    leave_out: float = 0.1
    unused: bool = False


class Block(nn.Module):
    def __init__(self, width: int, dropout: float, leave_out: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(dropout)
        )
        self.leave_out = leave_out
        self.register_buffer("scale", torch.ones(1))  # a float buffer of its own, an average of what it saw
        self.scale: Tensor

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.layers(images)
        if self.training:
            self.scale = 0.9 * self.scale + 0.1 * result.detach().abs().mean()
            if random.random() < self.leave_out:
                return images
        return images + result * float(1 + 0.1 * self.training * numpy.random.rand())


class Residual(nn.Module):
    def __init__(self, settings: Settings, channels: int, classes: int) -> None:
        super().__init__()
        width = settings.width
        self.stem = nn.Conv2d(channels, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList([Block(width, settings.dropout, settings.leave_out) for _ in range(2)])
        self.levels = nn.Embedding(4, width)  # by brightness
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        self.mirrored = nn.Linear(width, 2)
        self.head_again = nn.Linear(width, classes)
        self.head_again.weight = self.head.weight
        self.frozen = nn.Linear(width, width).requires_grad_(False)
        self.unused = nn.Linear(2, 2) if settings.unused else None
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.int64))
        self.register_buffer("any", torch.zeros(3, dtype=torch.bool))
        self.register_buffer("mask", torch.full((width,), -torch.inf))
        self.register_buffer("seconds", torch.zeros(1), persistent=False)
        self.seconds: Tensor
        self.seen: Tensor
        self.mask: Tensor

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.stem(images.float() / 255 - 0.5)
        for block in self.blocks:
            features = block(features)
        level = (images.float().mean((1, 2, 3)) / 64).long().clamp(0, 3)
        pooled = self.norm(features.amax((2, 3)) + self.levels(level) + self.mask.exp())
        pooled = pooled + self.frozen(pooled)
        return self.head(pooled) + self.head_again(pooled), self.mirrored(pooled)


def build(settings: Settings, data: object) -> Residual:
    return Residual(settings, data.shape[0], data.classes)  # type: ignore[attr-defined]


def _weights(labels: Tensor) -> Tensor:
    return 1.0 + (labels % 3)


def loss(module: Residual, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits, mirrored = module(images)
    if module.training:
        module.seconds += 0.5
        module.seen += torch.bincount(labels, minlength=len(module.seen))
    weights = _weights(labels)
    classes = functional.cross_entropy(logits, labels, reduction="none") * weights
    side = functional.cross_entropy(mirrored, (images[:, 0, 0, 0] > 100).long(), reduction="none") * weights
    return (classes + side).sum(), weights.sum()


def measure(module: Residual, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    logits, mirrored = module(images)
    weights = _weights(labels)
    summed = (functional.cross_entropy(logits, labels, reduction="none") * weights).sum()
    right = mirrored.argmax(1) == (images[:, 0, 0, 0] > 100)
    correct = logits.argmax(1) == labels
    return {"correct": correct.sum(), "mirrored": right.sum(), "loss": summed, "weight": weights.sum()}


def augment(images: Tensor, labels: Tensor, draws: Tensor) -> Tensor:
    mixed = images.float() * 0.9 + images.flip(0).float() * 0.1  # within the micro-batch
    return torch.where(draws[:, 0, None, None, None] < 0.5, mixed.byte(), images)
