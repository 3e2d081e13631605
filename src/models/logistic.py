"""The model, the shape of its images, and its loss. Put your own here."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
SHAPE = (28, 28)  # of one image, as the data set's files hold it
PIXELS = math.prod(SHAPE)


class LogisticRegression(nn.Module):
    """Ten weight templates: logits = images @ weight.T + bias.

    The sigmoid of the recipe is part of the loss, which is stable where sigmoid + log is not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(PIXELS, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, PIXELS) float32 in [0, 1] -> (batch, CLASSES) logits."""
        logits: Tensor = self.linear(images)
        return logits


def build(seed: int) -> nn.Module:
    """A model whose initial weights depend on the seed alone."""
    torch.manual_seed(seed)
    return LogisticRegression()


def targets(labels: Tensor, loss: str) -> Tensor:
    """What the loss compares logits with: one-hot (batch, 10) float32 for bce, else the (batch,) labels."""
    return functional.one_hot(labels, CLASSES).float() if loss == "bce" else labels


def loss_function(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The *sum* of the samples' losses, from (batch, 10) logits and `targets`.

    "bce": sigmoid and binary cross-entropy on one-hot labels, each sample's loss being the mean over the
    ten classes (what BCELoss(sigmoid(logits)) computes). "cross_entropy": softmax and log loss.
    """
    if name == "bce":
        return lambda logits, target: (
            functional.binary_cross_entropy_with_logits(logits, target, reduction="sum") / CLASSES
        )
    return lambda logits, target: functional.cross_entropy(logits, target, reduction="sum")
