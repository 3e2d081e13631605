"""How good the weights are: the model's own sums over a split, exact, with the raw module."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from src.data.splits import Split
from src.evaluation.metrics import Metrics
from src.models import Model

SAMPLES_AT_ONCE = 1000


class Interrupted(Exception):
    """The evaluation was asked to stop before its end."""


@torch.no_grad()
def evaluate(model: Model, module: nn.Module, split: Split, interrupted: Callable[[], bool] = lambda: False) -> Metrics:
    """Measure the module on the split; leaves it in the mode it was in. Raises Interrupted."""
    was_training = module.training
    module.eval()
    totals: dict[str, Tensor] = {}
    try:
        for start in range(0, len(split), SAMPLES_AT_ONCE):
            if interrupted():
                raise Interrupted
            sums = model.measure(module, *split.range(start, start + SAMPLES_AT_ONCE))
            for name, value in sums.items():
                exact = _exact(torch.as_tensor(value))
                totals[name] = totals[name] + exact if name in totals else exact
    finally:
        module.train(was_training)
    scalars = {name: total.item() for name, total in totals.items() if total.dim() == 0}
    divisions = model.metrics(list(scalars))
    best, higher = model.best(list(divisions))
    tables = {name: total.tolist() for name, total in totals.items() if total.dim() > 0}
    return Metrics(len(split), scalars, divisions, best, higher, tables)


def _exact(value: Tensor) -> Tensor:
    """In a type that adds without loss: whole numbers of 64 bits, or floats of 64."""
    return value.detach().double() if value.is_floating_point() else value.detach().long()
