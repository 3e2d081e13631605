"""What a model has learned, as pictures and lists: its weight templates, and what it gets most wrong."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.data.dataset import Spec, Split
from src.errors import ModelFailed
from src.evaluation import SAMPLES_AT_ONCE
from src.models import Model


@dataclass(frozen=True)
class Wrong:
    """A sample that the model is sure of, and wrong."""

    index: int
    truth: int
    guess: int
    probability: float


def are_pictures(spec: Spec) -> bool:
    """Whether the inputs are bytes of shape (height, width) or (channels, height, width), grey or colour."""
    is_picture = len(spec.shape) == 2 or (len(spec.shape) == 3 and spec.shape[0] in (1, 3))
    return is_picture and spec.dtype == torch.uint8


def classifies(model: Model, module: nn.Module, spec: Spec) -> bool:
    """Whether the model gives a probability for each class of the data."""
    if not spec.classes:
        return False
    try:
        with torch.no_grad():
            device = next(module.parameters()).device
            found = model.probabilities(module, torch.zeros(1, *spec.shape, dtype=spec.dtype, device=device))
    except (ModelFailed, RuntimeError, AttributeError, TypeError):
        return False
    return isinstance(found, Tensor) and found.shape == (1, spec.classes)


def templates(module: nn.Module, spec: Spec) -> Tensor:
    """The weights of a linear model as pictures: (classes, height, width) float32; empty for any other model."""
    weights = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    shape = (spec.classes, torch.Size(spec.shape).numel())
    if len(weights) != 1 or weights[0].shape != shape or len(spec.shape) != 2:
        return torch.empty(0, *spec.shape)
    return weights[0].detach().cpu().float().view(-1, *spec.shape)


@torch.no_grad()
def linear(module: nn.Module, spec: Spec) -> tuple[Tensor, Tensor] | None:
    """(weight (classes, pixels), bias (classes,)) where the module is just that on inputs / 255; None for any other.

    It is tried on noise: a norm or an activation beside the one matrix would make it another function.
    """
    if not len(templates(module, spec)):
        return None
    weight = templates(module, spec).view(spec.classes, -1)
    biases = [parameter for parameter in module.parameters() if parameter.shape == (spec.classes,)]
    bias = biases[0].detach().cpu().float() if biases else torch.zeros(spec.classes)
    noise = torch.randint(0, 256, (8, *spec.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = module(noise.to(next(module.parameters()).device)).cpu().float()
    expected = noise.flatten(1).float() / 255 @ weight.T + bias
    return (weight, bias) if torch.allclose(found, expected, atol=1e-4, rtol=1e-4) else None


def grey(pictures: Tensor) -> Tensor:
    """Any float pictures (n, height, width) as uint8, one scale for all: 128 is 0."""
    largest = pictures.abs().max().clamp(min=1e-12)
    return (pictures / largest * 127 + 128).round().to(torch.uint8)


@torch.no_grad()
def most_wrong(model: Model, module: nn.Module, split: Split, number: int) -> list[Wrong]:
    """The samples whose wrong guess has the highest probability, the surest first."""
    found = []
    for start in range(0, len(split), SAMPLES_AT_ONCE):
        labels = split.targets[start : start + SAMPLES_AT_ONCE]
        chance, guess = model.probabilities(module, split.inputs[start : start + SAMPLES_AT_ONCE]).max(1)
        for place in (guess != labels).nonzero().flatten().tolist():
            found.append(Wrong(start + place, int(labels[place]), int(guess[place]), float(chance[place])))
    return sorted(found, key=lambda wrong: (-wrong.probability, wrong.index))[:number]
