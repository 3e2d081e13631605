"""The same bits from any number of ranks: fixed shards, whose gradients are added in a fixed order."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.distributed as dist  # noqa: TID251
from torch import Tensor, nn

from src.data.loader import MicroBatch
from src.errors import UserError
from src.gradients.shared_memory import SCALARS
from src.gradients.step import Loss, Seed, StepResult
from src.world.world import World


class Exchange(Protocol):
    """Adds tensors that the ranks hold between them, in a fixed order."""

    name: str
    waited: float

    def sum(self, mine: Sequence[Tensor], notes: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See SharedMemory.sum."""


class Bitwise:
    """Each shard's gradient alone, added in shard order.

    The module is the bare one: every shard through DDP's machinery takes 2 to 4 times as long.
    """

    def __init__(self, module: nn.Module, loss: Loss, seed: Seed, own: range, exchange: Exchange) -> None:
        if changing := [name for name, _ in module.named_buffers()]:
            raise UserError(
                f"train.sync=bitwise: the model has buffers ({', '.join(changing[:3])}) that each rank would "
                "change alone, as BatchNorm does",
                fix="use a norm without them, or train.sync=ddp",
            )
        self._module, self._loss, self._seed, self._own, self._exchange = module, loss, seed, own, exchange
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._total = _flat(self._parameters)
        self._flat = [_flat(self._parameters) for _ in own]
        self._views = [_views(flat, self._parameters) for flat in self._flat]
        for parameter, view in zip(self._parameters, _views(self._total, self._parameters), strict=True):
            parameter.grad = view
        self.name = f"bitwise, {exchange.name}"

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others."""
        return self._exchange.waited

    def forward_backward(self, parts: list[MicroBatch], count: int, step: int, vote: bool) -> StepResult:
        """See Gradients.forward_backward."""
        notes = []
        for shard, part, views in zip(self._own, parts, self._views, strict=True):
            self._seed.set(step, shard)
            loss = self._loss(self._module(part.images), part.targets)
            gradients = torch.autograd.grad(loss / count, self._parameters, materialize_grads=True)
            torch._foreach_copy_(views, gradients)
            notes.append((loss.item(), float(vote)))
        return StepResult(*self._exchange.sum(self._flat, notes, self._total))


def _flat(parameters: list[nn.Parameter]) -> Tensor:
    return torch.zeros(sum(parameter.numel() for parameter in parameters), device=parameters[0].device)


def _views(flat: Tensor, parameters: list[nn.Parameter]) -> list[Tensor]:
    """Parts of the flat tensor in the shapes of the parameters."""
    parts = torch.split(flat, [parameter.numel() for parameter in parameters])
    return [part.view_as(parameter) for part, parameter in zip(parts, parameters, strict=True)]


def _add(slots: Sequence[Tensor], total: Tensor) -> None:
    total.copy_(slots[0])
    for slot in slots[1:]:
        total.add_(slot)


class Local:
    """All slots are here: a world of one."""

    name = "one rank"
    waited = 0.0

    def sum(self, mine: Sequence[Tensor], notes: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See SharedMemory.sum."""
        _add(mine, total)
        return [sum(note) for note in zip(*notes, strict=True)]


class AllGather:
    """The slots of all ranks through the backend's all_gather, which moves bits and adds nothing."""

    waited = 0.0

    def __init__(self, world: World, slots: int, own: range, name: str) -> None:
        self.name = name
        self._world, self._own = world, own
        deals = world.all_gather(own)
        self._rows = max(len(deal) for deal in deals)
        self._place = {slot: (rank, row) for rank, deal in enumerate(deals) for row, slot in enumerate(deal)}
        assert sorted(self._place) == list(range(slots))

    def sum(self, mine: Sequence[Tensor], notes: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See SharedMemory.sum."""
        length = total.numel()
        sent = torch.zeros(self._rows, length, dtype=total.dtype, device=total.device)
        said = torch.zeros(self._rows, SCALARS, dtype=torch.float64)
        for row, (tensor, note) in enumerate(zip(mine, notes, strict=True)):
            sent[row] = tensor
            said[row] = torch.tensor(note, dtype=torch.float64)
        got, heard = (
            sent.new_empty(self._world.size, *sent.shape),
            said.new_empty(self._world.size, *said.shape),
        )
        dist.all_gather(list(got), sent)
        dist.all_gather(list(heard), said)
        places = [self._place[slot] for slot in range(len(self._place))]
        _add([got[place] for place in places], total)
        return [sum(heard[place][note].item() for place in places) for note in range(SCALARS)]
