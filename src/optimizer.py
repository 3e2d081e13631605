"""How the weights move: torch's optimizer, with a learning rate that is a pure function of the step."""

import math

import torch
from torch import nn

from src import config
from src.config import JobFailed
from src.gradients import GPU_LOOK_STEPS, Total


class NonFinite(JobFailed):
    """The loss became infinite or not a number; the weights are still those before the step."""


class Optimizer:
    """torch's SGD or AdamW and its schedule; `steps` is the length of the whole training."""

    def __init__(self, module: nn.Module, settings: config.Optim, steps: int) -> None:
        self._settings, self._steps = settings, steps
        self.torch = _build(module, settings)
        self._constant = settings.schedule == "constant" and settings.warmup_steps == 0
        self._bad: torch.Tensor | None = None

    def lr(self, step: int) -> float:
        """The learning rate of the step (counted from 0): linear warm-up, then the schedule's way to 0."""
        chosen, warmup = self._settings, self._settings.warmup_steps
        if step < warmup:
            return chosen.lr * (step + 1) / warmup
        left = 1 - (step - warmup) / max(1, self._steps - warmup)
        if chosen.schedule == "cosine":
            return chosen.lr * (1 - math.cos(math.pi * left)) / 2
        return chosen.lr * left if chosen.schedule == "linear" else chosen.lr

    def step(self, step: int, total: Total) -> None:
        """Move the weights by their .grad. Raises NonFinite, on all ranks alike, before they are spoiled."""
        if isinstance(total.loss, float):
            if not math.isfinite(total.loss):
                raise NonFinite(self._say(step))
        else:
            self._skip_if_bad(step, total.loss)
        if not self._constant:
            for group in self.torch.param_groups:
                group["lr"] = self.lr(step)
        self.torch.step()

    def _skip_if_bad(self, step: int, loss: torch.Tensor) -> None:
        """On a GPU: from the first bad step on the fused optimizer moves nothing; the host hears it later."""
        bad = (~torch.isfinite(loss)).float().reshape(1)
        self._bad = bad if self._bad is None else torch.maximum(self._bad, bad)
        self.torch.found_inf = self._bad  # type: ignore[attr-defined]
        if step % GPU_LOOK_STEPS == 0 and bool(self._bad):
            raise NonFinite(self._say(step))

    def _say(self, step: int) -> str:
        return (
            f"the loss is not finite at step {step + 1} with learning rate {self.lr(step):g}: "
            "the weights before it are safe; try a smaller optim.lr or optim.warmup_steps"
        )


def _build(module: nn.Module, settings: config.Optim) -> torch.optim.Optimizer:
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
