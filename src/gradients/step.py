"""What every way of computing a step's gradients has in common: its result, the division, precision, random numbers."""

import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from src import schema
from src.errors import UserError
from src.gradients import votes

GPU_LOOK_STEPS = 16  # on a GPU, asking costs a wait for it
MASK = 2**64 - 1
SCALARS = 3  # numbers that travel beside the gradients: a StepResult
# (module, inputs, targets) -> (sum of the losses over the items, number of items); `src.models.Model.loss` is one.
Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, float | Tensor]]
# ... -> (sum of the losses, number of items, the sum's gradient by parameter name); `src.models.Model.gradients` is
# one.
OwnGradients = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, float | Tensor, dict[str, Tensor]]]


@dataclass(slots=True)
class StepResult:
    """A step's sums over the global batch: of the losses, of the votes to stop, and of the items.

    `notes` are those of all ranks (src.gradients.notes), a row each, where the ranks gave one. On a GPU everything is
    a tensor whose values are not waited for.
    """

    loss: float | Tensor
    votes: float | Tensor
    items: float | Tensor
    notes: list[list[float]] | Tensor | None = field(default=None, init=False)

    def should_stop(self, step: int) -> bool:
        """Whether the ranks stop after this step: the same answer on all. On a GPU it is asked now and then."""
        return self._is_known(step) and votes.stops(float(self.votes))

    def should_save(self, step: int) -> bool:
        """Whether they save after this step, as rank 0 wants: the same answer on all, asked now and then too."""
        return self._is_known(step) and votes.saves(float(self.votes))

    def _is_known(self, step: int) -> bool:
        return isinstance(self.votes, float) or step % GPU_LOOK_STEPS == 0


def divide(gradients: list[Tensor], items: float | Tensor) -> None:
    """Turn sums over the global batch into means over its items, in place; a batch without items has gradients of 0."""
    if isinstance(items, Tensor):
        torch._foreach_div_(gradients, torch.where(items == 0, 1, items))
    elif items:
        torch._foreach_div_(gradients, float(items))


def number(value: float | Tensor) -> float | Tensor:
    """A number of the host's; of a GPU's the tensor, in float64, which is not waited for."""
    if isinstance(value, Tensor):
        return value.detach().double() if value.is_cuda else value.item()
    return float(value)


def make_repeatable(settings: schema.Train, device: torch.device) -> None:
    """With bitwise on a GPU: only algorithms that compute the same bits twice. Call before the first product.

    An operation that has none raises torch's own error, which names it.
    """
    if settings.sync == "bitwise" and device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def in_precision(loss: Loss, precision: str, device: torch.device) -> Loss:
    """The loss under torch's autocast where train.precision asks for it; its sum is float32 at least."""
    if precision == "float32":
        return loss

    def autocast(module: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float | Tensor]:
        with torch.autocast(device.type, dtype=getattr(torch, precision)):
            summed, items = loss(module, inputs, targets)
        return (summed if summed.dtype == torch.float64 else summed.float()), items

    return autocast


class Differentiated(Protocol):
    """Computes the gradients of a micro-batch and leaves every .grad alone: by autograd, or as the model does."""

    def __call__(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float | Tensor, list[Tensor | None]]:
        """(sum of the losses, number of items, the sum's gradient for each parameter that is trained).

        A gradient is None where the loss does not depend on the parameter, unless it was asked for as zeros.
        """


class Autograd:
    """The gradients that torch computes; `zeros` asks for zeros where the loss does not depend on a parameter.

    `setting` is what asks for them this way, for messages.
    """

    def __init__(self, module: nn.Module, loss: Loss, setting: str, *, zeros: bool) -> None:
        self._module, self._loss, self._setting, self._zeros = module, loss, setting, zeros
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._reentrant_is_refused = False

    def __call__(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float | Tensor, list[Tensor | None]]:
        """See Differentiated."""
        loss, items = self._loss(self._module, inputs, targets)
        if not self._reentrant_is_refused:
            self._refuse_reentrant(loss)
        zeros = self._zeros
        return loss, items, [*torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=zeros)]

    def _refuse_reentrant(self, loss: Tensor) -> None:
        """Before the first gradient: what is behind such a checkpoint would have none, without a word."""
        seen, waiting = set(), [loss.grad_fn]
        while waiting:
            node = waiting.pop()
            if node is None or node in seen:
                continue
            if node.name() == "CheckpointFunctionBackward":
                reason = f"{self._setting}: the model calls torch.utils.checkpoint with use_reentrant=True"
                raise UserError(reason, fix="give use_reentrant=False, or leave that setting out")
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
        self._reentrant_is_refused = True


class ClosedForm:
    """A model's own gradients, in the order of the parameters that are trained."""

    name = "closed form"

    def __init__(self, module: nn.Module, gradients: OwnGradients) -> None:
        self._module, self._gradients = module, gradients
        self._names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]

    def __call__(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float | Tensor, list[Tensor | None]]:
        """See Differentiated."""
        with torch.no_grad():
            loss, items, by_name = self._gradients(self._module, inputs, targets)
        return loss, items, [by_name[name] for name in self._names]


def kind_of(gradients_of: Differentiated | None) -> str:
    """For the banner: how a micro-batch is differentiated, where not simply by autograd."""
    name: str = getattr(gradients_of, "name", "")
    return f", {name}" if name else ""


class Seed:
    """Makes what a model draws at random (dropout) a pure function of (seed, step, shard, micro-batch).

    `others` are the modules among `random` and `numpy` that the model's file draws from too.
    """

    def __init__(self, seed: int, device: torch.device, others: Iterable[str] = ()) -> None:
        self._seed = seed
        self._seeders: list[Callable[[int], object]] = [torch.default_generator.manual_seed]
        if device.type == "cuda":
            self._seeders.append(torch.cuda.default_generators[device.index].manual_seed)
        if "random" in others:
            self._seeders.append(random.seed)
        if "numpy" in others:
            import numpy  # only here: nothing else in a step needs it

            self._seeders.append(numpy.random.seed)

    def set(self, step: int, shard: int, micro_batch: int = 0) -> None:
        """Call before each forward pass."""
        value = _mixed(_mixed(_mixed(self._seed) ^ step) ^ (shard + (micro_batch << 32))) & 0xFFFFFFFF
        for seed in self._seeders:
            seed(value)


def _mixed(value: int) -> int:
    """SplitMix64's finalizer: torch's generator on a CPU takes 32 bits of its seed, so that each must depend on all."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)
