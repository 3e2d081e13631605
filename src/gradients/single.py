"""A world of one: the gradient of its micro-batches, one after the other."""

import torch
from torch import Tensor, nn

from src.data.loader import MicroBatch
from src.gradients.step import Differentiated, Loss, Seed, StepResult, divide, kind_of, number


class SingleProcess:
    """A world of one: nothing to exchange."""

    name = "none (one rank)"
    waited = 0.0

    def __init__(self, module: nn.Module, loss: Loss, seed: Seed, gradients_of: Differentiated | None = None) -> None:
        self._module, self._loss, self._seed, self._gradients_of = module, loss, seed, gradients_of
        self._parameters = list(module.parameters())
        self.name += kind_of(gradients_of)
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        # Always the same memory: what gradients_of returns may be kept or overwritten by it.
        self._sums = [(parameter, torch.zeros_like(parameter)) for parameter in trained if gradients_of]

    def forward_backward(
        self, micro_batches: list[MicroBatch], step: int, vote: float, note: Tensor | None = None
    ) -> StepResult:
        """See Gradients.forward_backward."""
        for parameter in self._parameters:
            parameter.grad = None
        result = StepResult(0.0, vote, 0.0)
        result.notes = None if note is None else note[None]
        for index, batch in enumerate(micro_batches):
            self._seed.set(step, 0, index)
            loss, items = self._added(batch) if self._gradients_of else self._autograd(batch)
            one, count = number(loss), number(items)
            result.loss, result.items = (result.loss + one, result.items + count) if index else (one, count)
        divide([parameter.grad for parameter in self._parameters if parameter.grad is not None], result.items)
        return result

    def _autograd(self, batch: MicroBatch) -> tuple[Tensor, float | Tensor]:
        """Adds to every .grad; returns the sum of the losses and the number of items, as `_added` does."""
        loss, items = self._loss(self._module, batch.inputs, batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss, items

    def _added(self, batch: MicroBatch) -> tuple[Tensor, float | Tensor]:
        assert self._gradients_of is not None
        loss, items, gradients = self._gradients_of(batch.inputs, batch.targets)
        found = [(*pair, new) for pair, new in zip(self._sums, gradients, strict=True) if new is not None]
        old = [(total, new) for parameter, total, new in found if parameter.grad is not None]
        new = [(parameter, total, new) for parameter, total, new in found if parameter.grad is None]
        if old:
            torch._foreach_add_([total for total, _ in old], [gradient for _, gradient in old])
        if new:
            torch._foreach_copy_([total for _, total, _ in new], [gradient for _, _, gradient in new])
        for parameter, total, _ in new:
            parameter.grad = total
        return loss, items
