"""What every way of computing a step's gradients has in common: its result, the division, and random numbers."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

GPU_LOOK_STEPS = 16  # on a GPU, asking costs a wait for it
MASK = 2**64 - 1
SCALARS = 3  # numbers that travel beside the gradients: a StepResult
# (module, inputs, targets) -> (sum of the losses over the items, number of items); `src.models.Model.loss` is one.
Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, float | Tensor]]


@dataclass(slots=True)
class StepResult:
    """A step's sums over the global batch: of the losses, of the votes to stop, and of the items.

    On a GPU they are tensors whose values are not waited for.
    """

    loss: float | Tensor
    votes: float | Tensor
    items: float | Tensor

    def should_stop(self, step: int) -> bool:
        """Whether the ranks stop after this step: the same answer on all. On a GPU it is asked now and then."""
        if isinstance(self.votes, float):
            return self.votes > 0
        return step % GPU_LOOK_STEPS == 0 and bool(self.votes > 0)


def backward(loss: Tensor, samples: int, parameters: Iterable[nn.Parameter]) -> None:
    """Leave in every parameter's .grad the gradient of loss / samples, `loss` being a sum."""
    for parameter in parameters:
        parameter.grad = None
    (loss / samples).backward()  # type: ignore[no-untyped-call]


def rescale(parameters: Iterable[nn.Parameter], samples: int, items: float | Tensor) -> None:
    """Turn gradients of the sum of the losses / samples into those of the mean over the items of the global batch."""
    if isinstance(items, float) and items in (0.0, float(samples)):
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    torch._foreach_mul_(gradients, samples / items)


class Seed:
    """Makes what a model draws at random (dropout) a pure function of (seed, step, shard)."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._generator = torch.default_generator
        if device.type == "cuda":
            self._generator = torch.cuda.default_generators[device.index]

    def set(self, step: int, shard: int) -> None:
        """Call before each forward pass."""
        self._generator.manual_seed(_mixed(_mixed(_mixed(self._seed) ^ step) ^ shard) & 0xFFFFFFFF)


def _mixed(value: int) -> int:
    """SplitMix64's finalizer: torch's generator on a CPU takes 32 bits of its seed, so that each must depend on all."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)
