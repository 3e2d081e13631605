"""The same bits from any number of ranks: fixed shards, whose gradients are added in a fixed order."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.distributed as dist  # noqa: TID251
from torch import Tensor, nn

from src.data.loader import MicroBatch
from src.errors import UserError
from src.gradients.step import SCALARS, Loss, Seed, StepResult, rescale
from src.world.world import World


class Exchange(Protocol):
    """Adds tensors that the ranks hold between them, in a fixed order."""

    name: str
    waited: float

    def sum(self, mine: Sequence[Tensor], scalars: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See SharedMemory.sum."""


class Bitwise:
    """The gradient of each shard, added in shard order.

    The module is the bare one: every shard through DDP's machinery takes 2 to 4 times as long.
    """

    def __init__(self, module: nn.Module, loss: Loss, seed: Seed, local: range, exchange: Exchange) -> None:
        if changing := [name for name, _ in module.named_buffers()]:
            raise UserError(
                f"train.sync=bitwise: the model has buffers ({', '.join(changing[:3])}) that each rank would "
                "change alone, as BatchNorm does",
                fix="use a norm without them, or train.sync=ddp",
            )
        self._module, self._loss, self._seed, self._local, self._exchange = module, loss, seed, local, exchange
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._sum = _flat(self._parameters)
        self._flat = [_flat(self._parameters) for _ in local]
        self._views = [_views(flat, self._parameters) for flat in self._flat]
        for parameter, view in zip(self._parameters, _views(self._sum, self._parameters), strict=True):
            parameter.grad = view
        self.name = f"bitwise, {exchange.name}"

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others."""
        return self._exchange.waited

    def forward_backward(self, micro_batches: list[MicroBatch], samples: int, step: int, vote: bool) -> StepResult:
        """See Gradients.forward_backward."""
        scalars = []
        for shard, batch, flat, views in zip(self._local, micro_batches, self._flat, self._views, strict=True):
            if not len(batch.targets):
                flat.zero_()
                scalars.append((0.0, float(vote), 0.0))
                continue
            self._seed.set(step, shard)
            loss, items = self._loss(self._module, batch.inputs, batch.targets)
            gradients = torch.autograd.grad(loss / samples, self._parameters, materialize_grads=True)
            torch._foreach_copy_(views, gradients)
            scalars.append((loss.item(), float(vote), float(items)))
        result = StepResult(*self._exchange.sum(self._flat, scalars, self._sum))
        rescale(self._parameters, samples, result.items)
        return result


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

    def sum(self, mine: Sequence[Tensor], scalars: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See SharedMemory.sum."""
        _add(mine, total)
        return [sum(values) for values in zip(*scalars, strict=True)]


class AllGather:
    """The slots of all ranks through the backend's all_gather, which moves bits and adds nothing."""

    waited = 0.0

    def __init__(self, world: World, slots: int, local: range, name: str) -> None:
        self.name = name
        self._world = world
        shards_of = world.all_gather(local)
        self._rows = max(len(shards) for shards in shards_of)
        self._position = {slot: (rank, row) for rank, shards in enumerate(shards_of) for row, slot in enumerate(shards)}
        assert sorted(self._position) == list(range(slots))

    def sum(self, mine: Sequence[Tensor], scalars: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See SharedMemory.sum."""
        length = total.numel()
        sent = torch.zeros(self._rows, length, dtype=total.dtype, device=total.device)
        sent_scalars = torch.zeros(self._rows, SCALARS, dtype=torch.float64)
        for row, (tensor, values) in enumerate(zip(mine, scalars, strict=True)):
            sent[row] = tensor
            sent_scalars[row] = torch.tensor(values, dtype=torch.float64)
        received = sent.new_empty(self._world.size, *sent.shape)
        received_scalars = sent_scalars.new_empty(self._world.size, *sent_scalars.shape)
        dist.all_gather(list(received), sent)
        dist.all_gather(list(received_scalars), sent_scalars)
        in_order = [self._position[slot] for slot in range(len(self._position))]
        _add([received[position] for position in in_order], total)
        return [sum(received_scalars[position][at].item() for position in in_order) for at in range(SCALARS)]
