"""Logistic regression: one linear layer, whose outputs are a logit for each class.

The sigmoid of the tutorial's recipe is part of the loss, which is stable where sigmoid + log is not.
"""

import math
from dataclasses import dataclass

from torch import Tensor, bincount, eye, nn
from torch.nn import functional

from src.models import Data
from src.schema import key

METRICS = {"accuracy": "correct / count", "loss": "loss / count"}
BEST = "max accuracy"


@dataclass
class Settings:
    """The keys `model.*`."""

    loss: str = key(
        "bce",
        "bce = sigmoid + binary cross-entropy; cross_entropy = softmax",
        choices=("bce", "cross_entropy"),
    )


class LogisticRegression(nn.Module):
    """logits = pixels @ weight.T + bias"""

    def __init__(self, pixels: int, classes: int, loss: str) -> None:
        super().__init__()
        self.linear = nn.Linear(pixels, classes)
        self.classes, self.loss = classes, loss
        self.rows = eye(classes)  # one-hot rows; no buffer: it is no part of the state

    def forward(self, images: Tensor) -> Tensor:
        """(n, *shape) bytes -> (n, classes) logits."""
        logits: Tensor = self.linear(self.pixels(images))
        return logits

    def pixels(self, images: Tensor) -> Tensor:
        """(n, *shape) numbers -> (n, pixels) floats: bytes from 0 to 1."""
        # Division, not multiplication by 1/255, which rounds differently: what ToTensor computes.
        return (images.flatten(1) if images.dim() > 1 else images[:, None]).float() / 255

    def loss_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The sum of the samples' losses.

        "bce": each sample's loss is the mean over the classes, what BCELoss(sigmoid(logits)) computes on one-hot
        labels. "cross_entropy": softmax and log loss.
        """
        if self.loss == "cross_entropy":
            return functional.cross_entropy(logits, labels, reduction="sum")
        one_hot = self.one_hot(labels)
        return functional.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum") / self.classes

    def one_hot(self, labels: Tensor) -> Tensor:
        """(n,) -> (n, classes): one operation, a third of functional.one_hot's time."""
        if self.rows.device != labels.device:
            self.rows = self.rows.to(labels.device)
        return self.rows.index_select(0, labels)


def build(settings: Settings, data: Data) -> LogisticRegression:
    """For pictures, or any other numbers, of any shape, in classes. Raises ValueError for one class."""
    if data.classes == 1:
        raise ValueError("tells two classes or more apart; these labels are all the same")
    return LogisticRegression(math.prod(data.shape), data.classes, settings.loss)


def loss(module: LogisticRegression, images: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """(sum of the losses, number of samples)."""
    return module.loss_of(module(images), labels), len(labels)


def gradients(module: LogisticRegression, images: Tensor, labels: Tensor) -> tuple[Tensor, int, dict[str, Tensor]]:
    """What autograd makes of `loss`, written down, which takes half of its time.

    The derivative of either loss with respect to a logit is the probability, minus 1 where the label is.
    """
    pixels = module.pixels(images)
    logits: Tensor = module.linear(pixels)
    if module.loss == "bce":
        errors = (logits.sigmoid() - module.one_hot(labels)) * (1 / module.classes)
    else:
        errors = logits.softmax(1) - module.one_hot(labels)
    by_name = {"linear.weight": errors.t() @ pixels, "linear.bias": errors.sum(0)}
    return module.loss_of(logits, labels), len(labels), by_name


def measure(module: LogisticRegression, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Sums over the samples; `confusion[truth][guess]` counts them."""
    logits = module(images)
    guesses, classes = logits.argmax(1), module.classes
    confusion = bincount(labels * classes + guesses, minlength=classes * classes).view(classes, classes)
    return {"correct": (guesses == labels).sum(), "loss": module.loss_of(logits, labels), "confusion": confusion}


def probabilities(module: LogisticRegression, images: Tensor) -> Tensor:
    """(n, classes): what each output stands for under the loss that trained it."""
    logits: Tensor = module(images)
    return logits.sigmoid() if module.loss == "bce" else logits.softmax(1)
