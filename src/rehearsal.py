"""What will happen to the model in hours, tried on a few samples before the first step: what fails, fails now."""

import torch
from torch import Tensor, nn

from src.data.dataset import DataSet
from src.data.order import DRAWS
from src.evaluation.measure import evaluate
from src.gradients.step import in_precision
from src.gradients.trial import left_as_it_was
from src.models import Model
from src.run import archive
from src.schema import Config

FEW = 2  # samples that are measured
PASSES = 2  # the second finds what the first one's graph is kept in: the state of a recurrent layer, say


def rehearse(
    model: Model, module: nn.Module, dataset: DataSet, settings: Config, device: torch.device, samples: int
) -> None:
    """A forward and a backward pass of so many samples, an evaluation of each set that will be measured, and a save.

    The module is left as it was. Raises UserError, and ModelFailed for what the model's file raises.
    """
    with left_as_it_was(module, []):
        _train(model, module, dataset.train.first(samples, device), settings.train.precision)
    for split in (dataset.test, dataset.validation):
        if split is not None:
            metrics = evaluate(model, module, split.few(FEW, device))
            if model.ends_early:
                model.is_enough(metrics.values)
    archive.check(module.state_dict())


def _train(model: Model, module: nn.Module, samples: tuple[Tensor, Tensor], precision: str) -> None:
    module.train()
    (inputs, targets), device = samples, samples[0].device
    if model.augments:
        inputs, targets = model.augment(inputs, targets, torch.zeros(len(targets), DRAWS, device=device))
    for _ in range(PASSES):
        loss, _ = in_precision(model.loss, precision, device)(module, inputs, targets)
        if not loss.requires_grad:
            raise model.broken("loss", "returned a sum that no parameter has a part in", "one to be differentiated")
        _differentiate(model, module, loss)


def _differentiate(model: Model, module: nn.Module, loss: Tensor) -> None:
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        model.raise_as_its_own(error)
        reason = str(error).partition("\n")[0]
        raise model.broken("loss", f"cannot be differentiated ({reason})", "a backward pass") from None
    finally:
        module.zero_grad(set_to_none=True)
