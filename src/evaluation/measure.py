"""How good the weights are: the model's own sums over a split, exact, with the raw module."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor, nn

from src.data.splits import Split
from src.evaluation.metrics import Metrics
from src.models import Model

SAMPLES_AT_ONCE = 1000
Sums = dict[str, Tensor]


class Interrupted(Exception):
    """The evaluation was asked to stop before its end."""


@dataclass
class Part:
    """What one of several ranks has measured: whole numbers, added; and the floats of each chunk of samples by its
    number, for their sum depends on the order. `names` are in the order in which the model gives them.
    """

    names: list[str] = field(default_factory=list)
    whole: Sums = field(default_factory=dict)
    floats: dict[int, Sums] = field(default_factory=dict)

    def add(self, chunk: int, sums: Sums) -> None:
        """The sums over a chunk."""
        self.names = self.names or list(sums)
        for name, value in sums.items():
            exact = _exact(torch.as_tensor(value))
            into = self.floats.setdefault(chunk, {}) if exact.is_floating_point() else self.whole
            into[name] = into[name] + exact if name in into else exact


@torch.no_grad()
def measure_part(
    model: Model, module: nn.Module, split: Split, interrupted: Callable[[], bool], rank: int = 0, ranks: int = 1
) -> Part:
    """Measure every `ranks`-th chunk of the split; leaves the module in the mode it was in. Raises Interrupted."""
    was_training = module.training
    module.eval()
    part = Part()
    try:
        for chunk in range(rank, -(-len(split) // SAMPLES_AT_ONCE), ranks):
            if interrupted():
                raise Interrupted
            start = chunk * SAMPLES_AT_ONCE
            sums = model.measure(module, *split.range(start, start + SAMPLES_AT_ONCE))
            part.add(chunk if ranks > 1 else 0, sums)  # one rank alone adds in order: it keeps no more than the sums
    finally:
        module.train(was_training)
    return part


def combine(model: Model, parts: list[Part], count: int) -> Metrics:
    """The metrics of `count` samples from the parts of all ranks: the same bits for any number of ranks."""
    totals: Sums = {}
    floats = dict(chain.from_iterable(part.floats.items() for part in parts))
    for sums in (*(part.whole for part in parts), *(floats[chunk] for chunk in sorted(floats))):
        for name, value in sums.items():
            totals[name] = totals[name] + value if name in totals else value
    names = next(part.names for part in parts if part.names)
    scalars = {name: totals[name].item() for name in names if totals[name].dim() == 0}
    divisions = model.metrics(list(scalars))
    best, higher = model.best(list(divisions))
    tables = {name: totals[name].tolist() for name in names if totals[name].dim() > 0}
    return Metrics(count, scalars, divisions, best, higher, tables)


def evaluate(model: Model, module: nn.Module, split: Split, interrupted: Callable[[], bool] = lambda: False) -> Metrics:
    """Measure the module on the whole split; leaves it in the mode it was in. Raises Interrupted."""
    return combine(model, [measure_part(model, module, split, interrupted)], len(split))


def _exact(value: Tensor) -> Tensor:
    """In a type that adds without loss: whole numbers of 64 bits, or floats of 64."""
    return value.detach().double() if value.is_floating_point() else value.detach().long()
