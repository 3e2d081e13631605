"""What a model has learned, as pictures and lists: its weight templates, and what it gets most wrong."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.data.dataset import Split
from src.evaluation import SAMPLES_AT_ONCE, predict
from src.models import logistic


@dataclass(frozen=True)
class Wrong:
    """A sample that the model is sure of, and wrong."""

    index: int
    truth: int
    guess: int
    probability: float


def templates(module: nn.Module) -> Tensor:
    """The weights of a linear model as pictures: (CLASSES, *SHAPE) float32; empty for any other model."""
    weights = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    if len(weights) != 1 or weights[0].shape != (logistic.CLASSES, logistic.PIXELS) or len(logistic.SHAPE) != 2:
        return torch.empty(0, *logistic.SHAPE)
    return weights[0].detach().cpu().float().view(-1, *logistic.SHAPE)


@torch.no_grad()
def linear(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """(weight (CLASSES, PIXELS), bias (CLASSES,)) where the module is just that, float32; None for any other.

    It is tried on noise: a norm or an activation beside the one matrix would make it another function.
    """
    if not len(templates(module)):
        return None
    weight = templates(module).view(logistic.CLASSES, logistic.PIXELS)
    biases = [parameter for parameter in module.parameters() if parameter.shape == (logistic.CLASSES,)]
    bias = biases[0].detach().cpu().float() if biases else torch.zeros(logistic.CLASSES)
    noise = torch.rand(8, logistic.PIXELS, generator=torch.Generator().manual_seed(0))
    found = module(noise.to(next(module.parameters()).device)).cpu().float()
    return (weight, bias) if torch.allclose(found, noise @ weight.T + bias, atol=1e-4, rtol=1e-4) else None


def grey(pictures: Tensor) -> Tensor:
    """Any float pictures (n, height, width) as uint8, one scale for all: 128 is 0."""
    largest = pictures.abs().max().clamp(min=1e-12)
    return (pictures / largest * 127 + 128).round().to(torch.uint8)


def probabilities(logits: Tensor, loss: str) -> Tensor:
    """(n, 10) logits -> (n, 10): what each output stands for under the loss that trained it."""
    return logits.sigmoid() if loss == "bce" else logits.softmax(1)


@torch.no_grad()
def most_wrong(module: nn.Module, split: Split, loss: str, number: int) -> list[Wrong]:
    """The samples whose wrong guess has the highest probability, the surest first."""
    found = []
    for start in range(0, len(split), SAMPLES_AT_ONCE):
        labels = split.labels[start : start + SAMPLES_AT_ONCE]
        chance, guess = probabilities(predict(module, split.images[start : start + SAMPLES_AT_ONCE]), loss).max(1)
        for place in (guess != labels).nonzero().flatten().tolist():
            found.append(Wrong(start + place, int(labels[place]), int(guess[place]), float(chance[place])))
    return sorted(found, key=lambda wrong: (-wrong.probability, wrong.index))[:number]
