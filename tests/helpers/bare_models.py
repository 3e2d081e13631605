"""The default model, and losses for bare modules of pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from src import model_file, models
from src.data.splits import Spec
from src.models import Model

SPEC = Spec((28, 28), torch.uint8, 10)  # MNIST's


def logistic(loss: str = "bce") -> Model:
    """src/models/logistic.py, loaded."""
    return models.load(model_file.find("logistic"), {"loss": loss})


def bce(module: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """The tutorial's loss for a module of floats (n, 784) in [0, 1]: a sum over the samples, and their number."""
    one_hot = functional.one_hot(labels, 10).float()
    logits = module(pixels.flatten(1).float() / 255)
    return functional.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum") / 10, len(labels)
