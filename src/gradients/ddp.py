"""DistributedDataParallel, whose communication hook adds and carries notes; and a world of one, which needs none."""

from typing import cast

import torch
import torch.distributed as dist  # noqa: TID251
from torch import Tensor, nn

from src.data.loader import MicroBatch
from src.errors import UserError
from src.gradients.shared_memory import SCALARS, SharedMemory
from src.gradients.step import Loss, Seed, StepResult
from src.world.world import World

Pending = torch.futures.Future[Tensor]


class SingleProcess:
    """A world of one: nothing to exchange."""

    name = "none (one rank)"
    waited = 0.0

    def __init__(self, module: nn.Module, loss: Loss, seed: Seed) -> None:
        self._module, self._loss, self._seed = module, loss, seed
        self._parameters = list(module.parameters())

    def forward_backward(self, parts: list[MicroBatch], count: int, step: int, vote: bool) -> StepResult:
        """See Gradients.forward_backward."""
        (part,) = parts
        self._seed.set(step, 0)
        loss = self._loss(self._module(part.images), part.targets)
        for parameter in self._parameters:
            parameter.grad = None
        (loss / count).backward()  # type: ignore[no-untyped-call]
        return StepResult(loss.detach() if loss.is_cuda else loss.item(), float(vote))


class DDPGradients:
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
        self._note = torch.zeros(SCALARS, device=world.device)
        self._notes = [0.0] * SCALARS
        self._total = StepResult(0.0, 0.0)
        self.name = f"DDP, {through}"
        self._wrapper.register_comm_hook(None, self._through_memory if memory else self._through_backend)

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others."""
        return self._memory.waited if self._memory else 0.0

    def forward_backward(self, parts: list[MicroBatch], count: int, step: int, vote: bool) -> StepResult:
        """See Gradients.forward_backward."""
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
                f"train.sync=ddp: the loss does not depend on parameters of the model ({', '.join(unused[:3])})",
                fix="freeze them (requires_grad_(False)), or use train.sync=bitwise",
            )
        self._unused_are_refused = True

    def _through_memory(self, _state: object, bucket: dist.GradBucket) -> Pending:  # type: ignore[name-defined]
        assert self._memory is not None
        buffer: Tensor = bucket.buffer()
        sums = self._memory.sum([buffer], [self._notes], buffer)
        if bucket.is_last():
            self._total = StepResult(sums[0], sums[1])
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
            self._total = StepResult(notes[0], notes[1]) if notes.is_cuda else StepResult(*notes.tolist())
            buffer.copy_(result[:length])
            return buffer

        return cast(Pending, _all_reduced(with_notes).then(split))


def _all_reduced(tensor: Tensor) -> "torch.futures.Future[list[Tensor]]":
    work = dist.all_reduce(tensor, async_op=True)
    assert work is not None
    return work.get_future()
