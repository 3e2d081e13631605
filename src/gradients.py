"""How the ranks agree on a gradient: DistributedDataParallel with its communication hook, or bitwise.

Either way `compute` leaves in every parameter's .grad, on every rank, the gradient of the mean loss over
the *global* batch: each rank divides by the global count, and the ranks add. What else they must agree on in
a step travels with the gradients: the sum of the losses, and how many ranks want to stop.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
import torch.distributed as dist  # noqa: TID251
from torch import Tensor, nn

from src import schema
from src.config import UserError
from src.distributed import World
from src.sharding import Part
from src.shared_memory import NOTES, SharedMemory, Unavailable, objection

GPU_LOOK_STEPS = 16  # on a GPU, asking costs a wait for it
Loss = Callable[[Tensor, Tensor], Tensor]
Pending = torch.futures.Future[Tensor]


@dataclass(slots=True)
class Total:
    """What a step's ranks found together: the sum of the losses over the global batch, the votes to stop.

    On a GPU both are tensors that nobody has waited for yet.
    """

    loss: float | Tensor
    votes: float | Tensor


class Exchange(Protocol):
    """Adds tensors that the ranks hold between them, in a fixed order."""

    name: str
    waited: float

    def sum(self, mine: Sequence[Tensor], notes: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See SharedMemory.sum."""


class Gradients(Protocol):
    """The gradients of one step."""

    name: str

    def compute(self, parts: list[Part], count: int, step: int, vote: bool) -> Total:
        """Fill every parameter's .grad from this rank's parts of a global batch of `count` samples."""

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others so far (0 where nobody measures it)."""


def shards(settings: schema.Train, world: World) -> tuple[int, range]:
    """(number of shards, this rank's own): one per rank, or with bitwise always train.shards.

    Raises UserError for more ranks than shards.
    """
    if settings.sync == "ddp":
        return world.size, range(world.rank, world.rank + 1)
    if world.size > settings.shards:
        raise UserError(
            f"train.shards={settings.shards}: {world.size} ranks cannot share them; "
            f"start at most {settings.shards} ranks, or train.shards={world.size} (another run: other sums)"
        )
    starts = [settings.shards * rank // world.size for rank in range(world.size + 1)]
    return settings.shards, range(starts[world.rank], starts[world.rank + 1])


def build(module: nn.Module, loss: Loss, settings: schema.Train, world: World) -> Gradients:
    """The way of the settings. Raises UserError where it is impossible."""
    number, own = shards(settings, world)
    seed = Seed(settings.seed, world.device)
    if world.size == 1:
        return Bitwise(module, loss, seed, own, Local()) if settings.sync == "bitwise" else Alone(module, loss, seed)
    memory, reason = _shared_memory(settings, world, number, own)
    through = memory.name if memory else world.backend + (f" ({reason})" if reason else "")
    if settings.sync == "bitwise":
        return Bitwise(module, loss, seed, own, memory or Gathered(world, number, own, through))
    return DistributedData(module, loss, seed, world, memory, through)


def agreed(total: Total, step: int) -> bool:
    """Whether the ranks stop after this step: the same answer on all. On a GPU it is asked now and then."""
    if isinstance(total.votes, float):
        return total.votes > 0
    return step % GPU_LOOK_STEPS == 0 and bool(total.votes > 0)


def _shared_memory(settings: schema.Train, world: World, number: int, own: range) -> tuple[SharedMemory | None, str]:
    """The memory that the ranks share, or None and why there is none; the same on all ranks."""
    if settings.exchange == "backend":
        return None, ""
    reason = objection(world)
    if not reason:
        try:
            return SharedMemory(world, number, own, settings.timeout_seconds), ""
        except Unavailable as error:
            reason = str(error)
    if settings.exchange == "shared_memory":
        raise UserError(f"train.exchange=shared_memory: {reason}; use auto or backend")
    return None, "" if world.backend == "nccl" else reason


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


class Alone:
    """A world of one: nothing to exchange."""

    name = "none (one rank)"
    waited = 0.0

    def __init__(self, module: nn.Module, loss: Loss, seed: Seed) -> None:
        self._module, self._loss, self._seed = module, loss, seed
        self._parameters = list(module.parameters())

    def compute(self, parts: list[Part], count: int, step: int, vote: bool) -> Total:
        """See Gradients.compute."""
        (part,) = parts
        self._seed.set(step, 0)
        loss = self._loss(self._module(part.images), part.targets)
        for parameter in self._parameters:
            parameter.grad = None
        (loss / count).backward()  # type: ignore[no-untyped-call]
        return Total(loss.detach() if loss.is_cuda else loss.item(), float(vote))


class DistributedData:
    """DistributedDataParallel; its communication hook adds (it would average) and carries the notes."""

    def __init__(
        self, module: nn.Module, loss: Loss, seed: Seed, world: World, memory: SharedMemory | None, through: str
    ) -> None:
        from torch.nn.parallel import DistributedDataParallel

        self._loss, self._seed, self._rank, self._memory = loss, seed, world.rank, memory
        self._wrapper = DistributedDataParallel(
            module,
            device_ids=[world.device.index] if world.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
        )
        self._parameters = list(module.parameters())
        self._unused_are_refused = False
        self._note = torch.zeros(NOTES, device=world.device)
        self._notes = [0.0] * NOTES
        self._total = Total(0.0, 0.0)
        self.name = f"DDP, {through}"
        self._wrapper.register_comm_hook(None, self._through_memory if memory else self._through_backend)

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others."""
        return self._memory.waited if self._memory else 0.0

    def compute(self, parts: list[Part], count: int, step: int, vote: bool) -> Total:
        """See Gradients.compute."""
        (part,) = parts
        self._seed.set(step, self._rank)
        loss = self._loss(self._wrapper(part.images), part.targets)
        if self._memory:
            self._notes = [loss.item(), float(vote)]
        else:
            self._note[0] = loss.detach()
            self._note[1] = float(vote)
        for parameter in self._parameters:
            parameter.grad = None
        (loss / count).backward()  # type: ignore[no-untyped-call]
        if not self._unused_are_refused:
            self._refuse_unused()
        return self._total

    def _refuse_unused(self) -> None:
        """After the first step: DDP would wait for these gradients for ever, or fail in the next one."""
        named = self._wrapper.module.named_parameters()
        if unused := [name for name, parameter in named if parameter.requires_grad and parameter.grad is None]:
            raise UserError(
                f"train.sync=ddp: the loss does not depend on parameters of the model ({', '.join(unused[:3])}); "
                "freeze them (requires_grad_(False)), or use train.sync=bitwise"
            )
        self._unused_are_refused = True

    def _through_memory(self, _state: object, bucket: dist.GradBucket) -> Pending:  # type: ignore[name-defined]
        assert self._memory is not None
        buffer: Tensor = bucket.buffer()
        sums = self._memory.sum([buffer], [self._notes], buffer)
        if bucket.is_last():
            self._total = Total(sums[0], sums[1])
        done: Pending = torch.futures.Future()
        done.set_result(buffer)
        return done

    def _through_backend(self, _state: object, bucket: dist.GradBucket) -> Pending:  # type: ignore[name-defined]
        buffer: Tensor = bucket.buffer()
        if not bucket.is_last():
            return cast(Pending, _all_reduced(buffer).then(lambda done: done.value()[0]))
        length = buffer.numel()
        with_notes = torch.cat([buffer, self._note.to(buffer.dtype)])

        def split(done: torch.futures.Future[list[Tensor]]) -> Tensor:
            (result,) = done.value()
            notes = result[length:]
            self._total = Total(notes[0], notes[1]) if notes.is_cuda else Total(*notes.tolist())
            buffer.copy_(result[:length])
            return buffer

        return cast(Pending, _all_reduced(with_notes).then(split))


def _all_reduced(tensor: Tensor) -> "torch.futures.Future[list[Tensor]]":
    work = dist.all_reduce(tensor, async_op=True)
    assert work is not None
    return work.get_future()


class Bitwise:
    """The same bits from any number of ranks: each shard's gradient alone, added in shard order.

    The module is the bare one: every shard through DDP's machinery takes 2 to 4 times as long.
    """

    def __init__(self, module: nn.Module, loss: Loss, seed: Seed, own: range, exchange: Exchange) -> None:
        if changing := [name for name, _ in module.named_buffers()]:
            raise UserError(
                f"train.sync=bitwise: the model has buffers ({', '.join(changing[:3])}) that each rank would "
                "change alone, as BatchNorm does; use a norm without them, or train.sync=ddp"
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

    def compute(self, parts: list[Part], count: int, step: int, vote: bool) -> Total:
        """See Gradients.compute."""
        notes = []
        for shard, part, views in zip(self._own, parts, self._views, strict=True):
            self._seed.set(step, shard)
            loss = self._loss(self._module(part.images), part.targets)
            gradients = torch.autograd.grad(loss / count, self._parameters, materialize_grads=True)
            torch._foreach_copy_(views, gradients)
            notes.append((loss.item(), float(vote)))
        return Total(*self._exchange.sum(self._flat, notes, self._total))


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


class Gathered:
    """The slots of all ranks through the backend's all_gather, which moves bits and adds nothing."""

    waited = 0.0

    def __init__(self, world: World, slots: int, own: range, name: str) -> None:
        self.name = name
        self._world, self._own = world, own
        deals = world.gather(own)
        self._rows = max(len(deal) for deal in deals)
        self._place = {slot: (rank, row) for rank, deal in enumerate(deals) for row, slot in enumerate(deal)}
        assert sorted(self._place) == list(range(slots))

    def sum(self, mine: Sequence[Tensor], notes: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """See SharedMemory.sum."""
        length = total.numel()
        sent = torch.zeros(self._rows, length, dtype=total.dtype, device=total.device)
        said = torch.zeros(self._rows, NOTES, dtype=torch.float64)
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
        return [sum(heard[place][note].item() for place in places) for note in range(NOTES)]
