"""How the weights change: torch's optimizer, with a learning rate that is a pure function of the step."""

import functools
import math
import warnings
from typing import Any, cast

import torch
from torch import Tensor

from src import schema
from src.errors import NonFinite
from src.gradients.graph import Graph
from src.gradients.step import GPU_LOOK_STEPS, StepResult

Groups = list[dict[str, Any]]
EPSILON = 1e-6  # of torch's clip_grad_norm_


class Optimizer:
    """torch's SGD or AdamW and its schedule, over groups of parameters as torch.optim takes them.

    `steps` is the length of the whole training. A group's own "lr" is a factor on the schedule's. With `cuda_graph` the
    .grad of every parameter must be the same memory in all steps.
    """

    def __init__(self, groups: Groups, settings: schema.Optim, steps: int, *, cuda_graph: bool = False) -> None:
        self._settings, self._steps, self._is_recorded = settings, steps, cuda_graph
        self._factors = [float(group.pop("lr", 1.0)) for group in groups]
        self.torch = _build(groups, settings, cuda_graph)
        self._parameters = [parameter for group in self.torch.param_groups for parameter in group["params"]]
        device = self._parameters[0].device
        # On a GPU: the newest loss, and 1 from the first loss or gradient on that is not finite.
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._bad = torch.zeros((), device=device)
        self._norm = torch.zeros((), device=device)
        self._graphs: dict[tuple[bool, ...], Graph[None]] = {}  # by which of the parameters have a gradient
        self._lr = math.nan  # of the groups, whatever they hold: the next step sets it
        self.grad_norm: float | Tensor | None = None  # of the newest step, before clipping; None without clip_norm

    def lr(self, step: int) -> float:
        """The learning rate of the step (counted from 0): linear warm-up, then the schedule's way to 0.

        wsd (warm-up, stable, decay) stays at optim.lr until the last optim.decay_share of all steps.
        """
        chosen, warmup = self._settings, self._settings.warmup_steps
        if step < warmup:
            return chosen.lr * (step + 1) / warmup
        if chosen.schedule == "wsd":
            decay = max(1, round(chosen.decay_share * self._steps))
            return chosen.lr * min(1.0, (self._steps - step) / decay)
        left = 1 - (step - warmup) / max(1, self._steps - warmup)
        if chosen.schedule == "cosine":
            return chosen.lr * (1 - math.cos(math.pi * left)) / 2
        return chosen.lr * left if chosen.schedule == "linear" else chosen.lr

    def step(self, step: int, result: StepResult) -> None:
        """Move the weights by their .grad. Raises NonFinite, on all ranks alike, before they are spoiled."""
        if (lr := self.lr(step)) != self._lr:
            self._set_lr(lr)
        if isinstance(result.loss, float):
            self._refuse_non_finite(step, result.loss)
            self._move()
            return
        self._loss.copy_(result.loss)
        if self._is_recorded:
            self._graph()()
        else:
            self._move_unless_bad()
        if step % GPU_LOOK_STEPS == 0:
            self.refuse_bad(step)

    def refuse_bad(self, step: int) -> None:
        """On a GPU: raise NonFinite if the weights stand still since a step before or this one. Waits for the GPU."""
        if bool(self._bad):
            raise NonFinite(self._message("loss or the gradient", step))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what was saved, on whatever device and with or without train.cuda_graph, which then needs its own."""
        if state:  # a CPU's plain SGD has none to give to a GPU's
            self.torch.load_state_dict(state)
        for group in self.torch.param_groups:
            if "capturable" in group:
                group["capturable"] = self._is_recorded
        self._lr = math.nan

    def _graph(self) -> Graph[None]:
        """That of the parameters that have a gradient in this step: a graph moves always the same."""
        key = tuple(parameter.grad is not None for parameter in self._parameters)
        if key not in self._graphs:
            self._graphs[key] = Graph(self._move_unless_bad, "the optimizer")
        return self._graphs[key]

    def _set_lr(self, lr: float) -> None:
        self._lr = lr
        for group, factor in zip(self.torch.param_groups, self._factors, strict=True):
            if not self._is_recorded:
                group["lr"] = lr * factor
            elif isinstance(group["lr"], Tensor) and group["lr"].device == self._loss.device:
                group["lr"].fill_(lr * factor)
            else:  # the first step, or the first after a checkpoint, which brings a number or a tensor on the CPU
                group["lr"] = torch.tensor(lr * factor, dtype=torch.float32, device=self._loss.device)

    def _move(self) -> None:
        if self._settings.clip_norm:
            self._clip()
        if self._settings.name == "sgd" and self._settings.momentum:
            self._begin_momentum()
        self.torch.step()

    def _begin_momentum(self) -> None:
        """torch's fused SGD fails where some parameters have their first gradient later than others."""
        state = cast(torch.optim.SGD, self.torch).state
        moved = [parameter for parameter in self._parameters if parameter.grad is not None]
        new = [parameter for parameter in moved if "momentum_buffer" not in state[parameter]]
        if len(new) < len(moved):
            for parameter in new:
                state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def _refuse_non_finite(self, step: int, loss: float) -> None:
        if not math.isfinite(loss):
            raise NonFinite(self._message("loss", step))
        # A sum of finite numbers may overflow, so the exact question is asked only where the sum is not finite.
        for gradient in self._gradients():
            if not math.isfinite(gradient.sum().item()) and not bool(torch.isfinite(gradient).all()):
                raise NonFinite(self._message("gradient", step))

    def _clip(self) -> None:
        """Scale the gradients to a global norm of optim.clip_norm where it is larger, as torch's clip_grad_norm_."""
        gradients, limit = self._gradients(), self._settings.clip_norm
        norm = torch.linalg.vector_norm(torch.stack([norm.float() for norm in torch._foreach_norm(gradients)]))
        if norm.is_cuda:
            self.grad_norm = self._norm.copy_(norm)
            torch._foreach_mul_(gradients, (limit / (norm + EPSILON)).clamp(max=1.0))
            return
        self.grad_norm = norm.item()
        if self.grad_norm > limit:  # not in place: gradients in shared memory are all ranks'
            scaled = iter(torch._foreach_mul(gradients, limit / (self.grad_norm + EPSILON)))
            for parameter in self._parameters:
                parameter.grad = None if parameter.grad is None else next(scaled)

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def _move_unless_bad(self) -> None:
        """On a GPU: from the first bad step on the fused optimizer moves nothing; the host learns it later."""
        norms = torch._foreach_norm(self._gradients())
        widest = functools.reduce(torch.promote_types, [norm.dtype for norm in norms])
        # 0 times a number is 0, or NaN where it is not finite.
        zero = (torch.stack([norm.to(widest) for norm in norms]) * 0).sum() + self._loss * 0
        self._bad.copy_(torch.maximum(self._bad, zero != 0))
        self.torch.found_inf = self._bad  # type: ignore[union-attr]
        self._move()

    def _message(self, what: str, step: int) -> str:
        return (
            f"the {what} is not finite at step {step + 1} with learning rate {self.lr(step):g}: "
            "the weights before it are safe; try a smaller optim.lr or optim.warmup_steps"
        )


class PlainSGD:
    """Gradient descent without a memory, so without a state: what torch.optim.SGD computes, to the bit.

    torch's own spends 50 microseconds a step on bookkeeping, a third of this job's step, and importing it
    takes each rank a second.
    """

    def __init__(self, groups: Groups, lr: float, weight_decay: float) -> None:
        self.param_groups: Groups = [{"weight_decay": weight_decay} | group | {"lr": lr} for group in groups]

    @torch.no_grad()
    def step(self) -> None:
        """weights -= lr * (gradient + weight_decay * weights)"""
        for group in self.param_groups:
            weights: list[Tensor] = [weight for weight in group["params"] if weight.grad is not None]
            gradients = [cast(Tensor, weight.grad) for weight in weights]
            if group["weight_decay"]:
                gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
            torch._foreach_add_(weights, gradients, alpha=-group["lr"])

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""


def _build(groups: Groups, settings: schema.Optim, cuda_graph: bool) -> "torch.optim.Optimizer | PlainSGD":
    on_cpu = all(parameter.device.type == "cpu" for group in groups for parameter in group["params"])
    if settings.name == "sgd" and settings.momentum == 0 and on_cpu:
        return PlainSGD(groups, settings.lr, settings.weight_decay)
    if settings.name == "adamw":
        warnings.filterwarnings("ignore", "This instance was constructed with capturable=True")  # some steps are eager
        return torch.optim.AdamW(
            groups,
            settings.lr,
            betas=(settings.betas[0], settings.betas[1]),
            weight_decay=settings.weight_decay,
            fused=True,
            capturable=cuda_graph,
        )
    return torch.optim.SGD(
        groups,
        settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=True,
    )
