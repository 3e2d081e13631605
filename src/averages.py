"""Averaged weights: an exponential moving average beside the weights that are trained, which never sees it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import UserError


class Average:
    """The average of the module's weights and float buffers over the steps; other buffers are the newest, and so are
    those with an infinite number when they are built (a mask of -inf), of which there is no mean.

    `half_life` is in samples: a step so many samples ago weighs half of the newest; 0 averages nothing, and `module` is
    None. The weights before the first step weigh nothing: after t steps with decays d1 ... dt the average is divided
    by 1 - d1*...*dt, as Adam does (Kingma and Ba, 2015).
    """

    def __init__(self, module: nn.Module, half_life: float) -> None:
        self._half_life, self._live = half_life, module
        self.module: nn.Module | None = None
        self.samples = 0
        if half_life:
            self.module = _copy(module).requires_grad_(False)
            averages, live = _tensors(self.module), _tensors(module)
            pairs = [(averages[name], live[name]) for name in live]
            self._pairs = [pair for pair in pairs if _has_a_mean(pair[1])]
            self._newest = [pair for pair in pairs if not _has_a_mean(pair[1])]

    @torch.no_grad()
    def update(self, samples: int) -> None:
        """Take in the weights after a step with so many samples."""
        if self.module is None:
            return
        self.samples += samples
        weight = (1 - 0.5 ** (samples / self._half_life)) / (1 - 0.5 ** (self.samples / self._half_life))
        torch._foreach_lerp_([average for average, _ in self._pairs], [live for _, live in self._pairs], weight)
        for newest, live in self._newest:
            newest.copy_(live)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors on the CPU and the counter; {} where nothing is averaged."""
        if self.module is None:
            return {}
        tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in _tensors(self.module).items()}
        return {"model": tensors, "samples": self.samples}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what was saved."""
        if self.module is None or not state:
            return
        self.samples = state["samples"]
        for name, tensor in _tensors(self.module).items():
            tensor.copy_(state["model"][name])

    @torch.no_grad()
    def restart(self) -> None:
        """Begin with the module's weights, which were loaded from elsewhere."""
        if self.module is not None:
            for average, live in [*self._pairs, *self._newest]:
                average.copy_(live)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Everything that a step may change, by name; a shared tensor once."""
    return dict([*module.named_parameters(), *module.named_buffers()])


def _has_a_mean(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isfinite().all())


def _copy(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise UserError(
            f"optim.average: the module cannot be copied ({type(error).__name__}: {error})",
            fix="keep what cannot be copied out of the module, or optim.average=0",
        ) from None
