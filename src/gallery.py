"""What a model has learned, as pictures and lists, as far as they fit the model and its data."""

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from src.data.splits import Spec, Split
from src.evaluation.measure import SAMPLES_AT_ONCE
from src.models import Model

BYTES = 256
CONTINUED, SAMPLES = 32, 3  # bytes of each sample of a text that is continued
CONTINUING_SECONDS = 5.0  # a large model continues with fewer bytes
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "softmax": lambda t: t.softmax(1)}


@dataclass(frozen=True)
class Wrong:
    """A sample whose wrong class has a high probability."""

    index: int
    truth: int
    guess: int
    probability: float


@dataclass(frozen=True)
class Linear:
    """A model that is one matrix on grey pictures: logits = pixels / divisor @ weight.T + bias.

    weight (classes, height x width), bias (classes,), float32 on the CPU; `activation` makes its logits
    probabilities.
    """

    weight: Tensor
    bias: Tensor
    divisor: float
    activation: str


@dataclass(frozen=True)
class Continuation:
    """The first half of a block of text, what the model continues it with, and what the text does."""

    begin: bytes
    model: bytes
    text: bytes


@contextmanager
def evaluating(module: nn.Module) -> Iterator[torch.device]:
    """The module in evaluation mode, without gradients; yields its device, leaves it in the mode it was in."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield next(module.parameters()).device
    finally:
        module.train(training)


def are_pictures(spec: Spec) -> bool:
    """Whether the inputs are bytes of shape (height, width) or (channels, height, width), grey or colour."""
    is_picture = len(spec.shape) == 2 or (len(spec.shape) == 3 and spec.shape[0] in (1, 3))
    return is_picture and spec.dtype == torch.uint8


def classifies(model: Model, module: nn.Module, spec: Spec) -> bool:
    """Whether the model gives a probability for each class of the data."""
    if not spec.classes:
        return False
    try:
        with evaluating(module) as device:
            chances = model.probabilities(module, torch.zeros(1, *spec.shape, dtype=spec.dtype, device=device))
    except Exception:  # any model's forward, tried on what it never promised to take
        return False
    is_row = isinstance(chances, Tensor) and chances.shape == (1, spec.classes) and chances.is_floating_point()
    return is_row and bool(((chances > -1e-3) & (chances < 1 + 1e-3)).all())


def linear(model: Model, module: nn.Module, spec: Spec) -> Linear | None:
    """The matrix of a model that is nothing else, found by trying it on noise; None for any other model or data."""
    weights = [parameter for parameter in module.parameters() if parameter.dim() > 1]
    shape = (spec.classes, torch.Size(spec.shape).numel())
    if len(spec.shape) != 2 or len(weights) != 1 or weights[0].shape != shape or not classifies(model, module, spec):
        return None
    noise = torch.randint(0, 256, (8, *spec.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    if spec.dtype != noise.dtype:
        return None
    try:
        return _fit(model, module, weights[0].detach().cpu().float(), noise)
    except Exception:  # as above
        return None


def _fit(model: Model, module: nn.Module, weight: Tensor, noise: Tensor) -> Linear | None:
    """How the model's logits and probabilities of the noise follow from the matrix; None if they do not."""
    with evaluating(module) as device:
        inputs = noise.to(device)
        logits, chances = module(inputs).cpu().float(), model.probabilities(module, inputs).cpu().float()
        bias = module(torch.zeros_like(inputs[:1]))[0].cpu().float()
    unscaled = noise.flatten(1).float() @ weight.T
    scale = float((unscaled * (logits - bias)).sum() / unscaled.square().sum())
    if not scale > 0:
        return None
    divisor = round(1 / scale) if abs(scale * round(1 / scale) - 1) < 1e-3 else 1 / scale
    if not torch.allclose(logits, unscaled / divisor + bias, atol=1e-4, rtol=1e-4):
        return None  # a norm or an activation beside the one matrix makes it another function
    activations = (name for name, f in ACTIVATIONS.items() if torch.allclose(f(logits), chances, atol=1e-4))
    activation = next(activations, None)
    return Linear(weight, bias, float(divisor), activation) if activation else None


def templates(fit: Linear, spec: Spec) -> Tensor:
    """The weights of a linear model as pictures: (classes, height, width) float32."""
    return fit.weight.view(-1, *spec.shape)


def grey(pictures: Tensor) -> Tensor:
    """Any float pictures (n, height, width) as uint8, one scale for all: 128 is 0."""
    largest = pictures.abs().max().clamp(min=1e-12)
    return (pictures / largest * 127 + 128).round().to(torch.uint8)


def most_wrong(model: Model, module: nn.Module, split: Split, number: int) -> list[Wrong]:
    """The samples whose wrong class has the highest probability, the highest first."""
    rows = []
    with evaluating(module):
        for start in range(0, len(split), SAMPLES_AT_ONCE):
            inputs, labels = split.range(start, start + SAMPLES_AT_ONCE)
            chance, guess = model.probabilities(module, inputs).max(1)
            for at in (guess != labels).nonzero().flatten().tolist():
                rows.append(Wrong(start + at, int(labels[at]), int(guess[at]), float(chance[at])))
    return sorted(rows, key=lambda wrong: (-wrong.probability, wrong.index))[:number]


def continuations(module: nn.Module, test: Split) -> list[Continuation]:
    """What the model continues a few blocks with, the likeliest byte each time; [] where it is none of bytes.

    The module is given blocks (n, length) uint8 with zeros for what is not known yet, and is to return logits
    (n, length, 256).
    """
    count, (length,) = len(test), test.inputs.shape[1:]
    rows = sorted({count * part // SAMPLES for part in range(SAMPLES)})
    inputs = test.take(torch.tensor(rows, device=test.device))[0]
    start = length // 2
    try:
        with evaluating(module) as device:
            found = _continued(module, inputs.to(device), start).cpu()
    except Exception:  # any model's forward, as above
        return []
    end = start + found.shape[1]
    texts = zip(inputs[:, :start].cpu(), found, inputs[:, start:end].cpu(), strict=True)
    return [Continuation(*(part.numpy().tobytes() for part in parts)) for parts in texts if start and end > start]


def _continued(module: nn.Module, inputs: Tensor, start: int) -> Tensor:
    """The bytes (n, at most CONTINUED) that the model puts in the place of those from `start` on."""
    text, at, began = inputs.clone(), start, time.monotonic()
    text[:, start:] = 0
    while at < min(start + CONTINUED, inputs.shape[1]) and time.monotonic() - began < CONTINUING_SECONDS:
        logits = module(text)
        if logits.shape != (*text.shape, BYTES):
            break
        text[:, at] = logits[:, at - 1].argmax(-1)
        at += 1
    return text[:, start:at]


def has_prepare(model: Model) -> bool:
    """Whether the model's file makes inputs from a picture or a text itself."""
    return hasattr(model.module, "prepare")


def why_not_predicted(model: Model, module: nn.Module, spec: Spec) -> str:
    """Why `python -m src.predict` cannot use the model, '' if it can."""
    if not classifies(model, module, spec):
        return "gives no probability for each class of its data"
    if not has_prepare(model) and not are_pictures(spec):
        kind = str(spec.dtype).removeprefix("torch.")
        return f"takes inputs {spec.shape} of {kind}, which are no pictures, and has no `prepare` (docs/your-model.md)"
    return ""


def next_commands(path: Path, model: Model, module: nn.Module, spec: Spec) -> list[str]:
    """The commands that fit a finished run: those for its model and its data alone."""
    run = shlex.quote(str(path))
    if why_not_predicted(model, module, spec):
        return [f"python -m src.evaluate {run}", f"python -m src.report {run}"]
    thing = "image.png" if are_pictures(spec) else "FILE"
    return [f"python -m src.predict {run} {thing}", f"python -m src.report {run}"]
