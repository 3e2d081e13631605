"""How the weights move: torch's optimizer, with a learning rate that is a pure function of the step."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from src import schema
from src.errors import NonFinite
from src.gradients.step import GPU_LOOK_STEPS, StepResult


class Optimizer:
    """torch's SGD or AdamW and its schedule; `steps` is the length of the whole training."""

    def __init__(self, module: nn.Module, settings: schema.Optim, steps: int) -> None:
        self._settings, self._steps = settings, steps
        self.torch = _build(module, settings)
        self._constant = settings.schedule == "constant" and settings.warmup_steps == 0
        self._bad: Tensor | None = None

    def lr(self, step: int) -> float:
        """The learning rate of the step (counted from 0): linear warm-up, then the schedule's way to 0."""
        chosen, warmup = self._settings, self._settings.warmup_steps
        if step < warmup:
            return chosen.lr * (step + 1) / warmup
        left = 1 - (step - warmup) / max(1, self._steps - warmup)
        if chosen.schedule == "cosine":
            return chosen.lr * (1 - math.cos(math.pi * left)) / 2
        return chosen.lr * left if chosen.schedule == "linear" else chosen.lr

    def step(self, step: int, result: StepResult) -> None:
        """Move the weights by their .grad. Raises NonFinite, on all ranks alike, before they are spoiled."""
        if isinstance(result.loss, float):
            if not math.isfinite(result.loss):
                raise NonFinite(self._message(step))
        else:
            self._skip_if_bad(step, result.loss)
        if not self._constant:
            for group in self.torch.param_groups:
                group["lr"] = self.lr(step)
        self.torch.step()

    def _skip_if_bad(self, step: int, loss: Tensor) -> None:
        """On a GPU: from the first bad step on the fused optimizer moves nothing; the host hears it later."""
        bad = (~torch.isfinite(loss)).float().reshape(1)
        self._bad = bad if self._bad is None else torch.maximum(self._bad, bad)
        self.torch.found_inf = self._bad  # type: ignore[union-attr]
        if step % GPU_LOOK_STEPS == 0 and bool(self._bad):
            raise NonFinite(self._message(step))

    def _message(self, step: int) -> str:
        return (
            f"the loss is not finite at step {step + 1} with learning rate {self.lr(step):g}: "
            "the weights before it are safe; try a smaller optim.lr or optim.warmup_steps"
        )


class PlainSGD:
    """Gradient descent without a memory, so without a state: what torch.optim.SGD computes, to the bit.

    torch's own spends 50 microseconds a step on bookkeeping, a third of this job's step, and importing it
    takes each rank a second.
    """

    def __init__(self, module: nn.Module, lr: float, weight_decay: float) -> None:
        self._parameters, self._weight_decay = list(module.parameters()), weight_decay
        self.param_groups = [{"lr": lr}]

    @torch.no_grad()
    def step(self) -> None:
        """weights -= lr * (gradient + weight_decay * weights)"""
        moved: list[Tensor] = [parameter for parameter in self._parameters if parameter.grad is not None]
        by = [cast(Tensor, parameter.grad) for parameter in moved]
        if self._weight_decay:
            by = list(torch._foreach_add(by, moved, alpha=self._weight_decay))
        torch._foreach_add_(moved, by, alpha=-self.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""


def _build(module: nn.Module, settings: schema.Optim) -> "torch.optim.Optimizer | PlainSGD":
    on_cpu = all(parameter.device.type == "cpu" for parameter in module.parameters())
    if settings.name == "sgd" and settings.momentum == 0 and on_cpu:
        return PlainSGD(module, settings.lr, settings.weight_decay)
    if settings.name == "adamw":
        return torch.optim.AdamW(
            module.parameters(),
            settings.lr,
            betas=(settings.momentum or 0.9, 0.999),
            weight_decay=settings.weight_decay,
            fused=True,
        )
    return torch.optim.SGD(
        module.parameters(),
        settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        fused=True,
    )
