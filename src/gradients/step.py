"""What every way of computing a step's gradients has in common: its result, and what the model draws at random."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

GPU_LOOK_STEPS = 16  # on a GPU, asking costs a wait for it
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(slots=True)
class StepResult:
    """What a step's ranks found together: the sum of the losses over the global batch, the votes to stop.

    On a GPU both are tensors that nobody has waited for yet.
    """

    loss: float | Tensor
    votes: float | Tensor
    items: float = 0.0

    def should_stop(self, step: int) -> bool:
        """Whether the ranks stop after this step: the same answer on all. On a GPU it is asked now and then."""
        if isinstance(self.votes, float):
            return self.votes > 0
        return step % GPU_LOOK_STEPS == 0 and bool(self.votes > 0)


class Seed:
    """Makes what a model draws at random (dropout) a pure function of (seed, step, shard)."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._generator = torch.default_generator
        if device.type == "cuda":
            self._generator = torch.cuda.default_generators[device.index]

    def set(self, step: int, shard: int) -> None:
        """Call before each forward pass."""
        self._generator.manual_seed((self._seed * 1_000_003 + step * 4099 + shard) % 2**63)
