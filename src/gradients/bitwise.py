"""The same bits from any number of ranks: fixed shards, whose gradients are added in a fixed tree."""

from collections.abc import Collection, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from src.data.loader import MicroBatch
from src.gradients.buffers import Buffers
from src.gradients.exchange import Exchange
from src.gradients.step import Autograd, Differentiated, Loss, Seed, StepResult, divide, kind_of, number
from src.gradients.tree import leaves, merge

Numbers = list[Any]  # floats; on a GPU tensors, which are not waited for


class Bitwise:
    """The gradient of each shard, added in the tree; the shard is also the unit of dropout and of BatchNorm.

    The module is the bare one: every shard through DDP's machinery takes 2 to 4 times as long.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        seed: Seed,
        shards: int,
        local: range,
        exchange: Exchange,
        updated: Collection[str] = (),
        gradients_of: Differentiated | None = None,
    ) -> None:
        self._gradients_of = gradients_of or Autograd(module, loss, "train.sync=bitwise", zeros=True)
        self._seed, self._local, self._exchange = seed, local, exchange
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._buffers = Buffers(module, updated)
        dtypes = [parameter.dtype for parameter in self._parameters]
        dtype = reduce(torch.promote_types, dtypes, self._buffers.dtype)  # float32 at least, for bfloat16 too
        length = sum(parameter.numel() for parameter in self._parameters) + self._buffers.length
        self._resident = exchange.resident(length, dtype)
        places = self._resident.blocks if self._resident else ()
        self._partials = PartialSums(self._parameters, self._buffers.length, local, shards, dtype, places)
        self._total = self._resident.total if self._resident else self._partials.sums[0]
        views = self._partials.views_of(self._total)[: len(self._parameters)]
        self._gradients = [
            view if parameter.dtype == dtype else torch.zeros_like(parameter)
            for parameter, view in zip(self._parameters, views, strict=True)
        ]
        pairs = zip(self._gradients, views, strict=True)
        self._others = [pair for pair in pairs if pair[0] is not pair[1]]  # of another type than the sum's
        self._tail = self._total.numel() - self._buffers.length
        self._divided = self._total[: self._tail + self._buffers.floats]
        self.name = f"bitwise, {exchange.name}{kind_of(gradients_of)}"

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others."""
        return self._exchange.waited

    def forward_backward(
        self, micro_batches: list[MicroBatch], step: int, vote: float, note: Tensor | None = None
    ) -> StepResult:
        """See Gradients.forward_backward."""
        self._buffers.begin()
        self._partials.begin()
        if note is not None:
            self._exchange.write(note.tolist())
        for shard, batch in zip(self._local, micro_batches, strict=True):
            if not len(batch.targets):
                self._partials.add_zeros([0.0, vote, 0.0])
                continue
            self._seed.set(step, shard)
            self._partials.add(*self._shard(batch, vote))
        result = self._sum()
        result.notes = self._exchange.read() if note is not None else None
        for gradient, view in self._others:
            gradient.copy_(view)
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        if self._buffers.length:
            self._buffers.agree(self._total[self._tail :])
        return result

    def _sum(self) -> StepResult:
        """Let the total be the mean over all ranks' shards."""
        blocks, scalars = self._partials.blocks()
        if self._resident:
            return StepResult(*self._resident.sum(scalars, self._divided.numel()))
        result = StepResult(*self._exchange.sum(blocks, scalars, self._total))
        divide([self._divided], result.items)
        return result

    def _shard(self, batch: MicroBatch, vote: float) -> tuple[list[Tensor], Numbers]:
        """(gradients, and what the buffers became; loss, vote and items) of one shard."""
        if self._buffers.length:
            self._buffers.restore()
        loss, items, found = self._gradients_of(batch.inputs, batch.targets)
        gradients = [gradient for gradient in found if gradient is not None]  # none is: they were asked for as zeros
        numbers = [number(loss), vote, number(items)]
        if self._buffers.length:
            gradients.append(self._buffers.changes(numbers[2], batch.is_first))
        return gradients, numbers


class PartialSums:
    """A rank's shards, added as they come: a flat tensor for each subtree that waits for its sibling.

    A flat tensor holds a number for each element of the parameters, and `more` numbers behind them. `places` are
    tensors for what is left at the end.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        more: int,
        local: range,
        shards: int,
        dtype: torch.dtype,
        places: Sequence[Tensor] = (),
    ) -> None:
        self._shapes = [parameter.shape for parameter in parameters] + [torch.Size([more])] * (more > 0)
        left, additions = merge(leaves(local), shards)
        self._merges = [len(made) for made in additions]
        waiting, most = 0, 1
        for made in self._merges:
            most = max(most, waiting + (made == 0))
            waiting += 1 - made
        assert waiting == len(left)
        length = sum(shape.numel() for shape in self._shapes)
        missing = max(most, waiting) - len(places)
        zeros = [torch.zeros(length, dtype=dtype, device=parameters[0].device) for _ in range(missing)]
        self.sums = [*places, *zeros]
        self._views = [self.views_of(flat) for flat in self.sums]
        self.begin()

    def views_of(self, flat: Tensor) -> list[Tensor]:
        """Parts of the flat tensor in the shapes of the parameters, and what is behind them."""
        parts = torch.split(flat, [shape.numel() for shape in self._shapes])
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def begin(self) -> None:
        """A new step: nothing was added yet."""
        self._waiting, self._added = 0, 0
        self._numbers: list[Numbers] = []

    def add(self, values: list[Tensor], numbers: Numbers) -> None:
        """The next shard's gradients and scalars."""
        if self._merges[self._added]:
            torch._foreach_add_(self._views[self._waiting - 1], values)
        else:
            torch._foreach_copy_(self._views[self._waiting], values)
        self._pushed(numbers)

    def add_zeros(self, numbers: Numbers) -> None:
        """The next shard has no samples. Zeros are added, for that turns -0 into 0."""
        if self._merges[self._added]:
            self.sums[self._waiting - 1].add_(0.0)
        else:
            self.sums[self._waiting].zero_()
        self._pushed(numbers)

    def _pushed(self, numbers: Numbers) -> None:
        """The shard is a sum of its own, or part of the one before: add the siblings that there are now."""
        merges = self._merges[self._added]
        self._added += 1
        self._numbers.append(numbers)
        self._waiting += not merges
        for turn in range(merges):
            if turn:
                self._waiting -= 1
                self.sums[self._waiting - 1].add_(self.sums[self._waiting])
            last = self._numbers.pop()
            self._numbers[-1] = [one + two for one, two in zip(self._numbers[-1], last, strict=True)]

    def blocks(self) -> tuple[list[Tensor], list[Numbers]]:
        """What is left after the last shard: (flat tensors, scalars) of this rank's blocks."""
        return self.sums[: self._waiting], self._numbers
