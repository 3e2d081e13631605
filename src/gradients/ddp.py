"""DistributedDataParallel, whose communication hook adds and carries scalars."""

import inspect
import time
from collections.abc import Collection
from contextlib import nullcontext
from typing import Any, cast

import torch
import torch.distributed as dist  # noqa: TID251
from torch import Tensor, nn

from src.data.loader import MicroBatch
from src.errors import JobFailed, UserError
from src.gradients import dynamo, notes
from src.gradients.buffers import Buffers
from src.gradients.shared_memory import SharedMemory
from src.gradients.step import SCALARS, Loss, Seed, StepResult, divide
from src.world.world import World

Pending = torch.futures.Future[Tensor]
NOTHING = (0.0,) * SCALARS
SETTLING_STEPS = 3  # the wrapper deals the parameters to buckets again, once, after its first step


class _Objective(nn.Module):
    """The loss as a module, so that the wrapper sees every way in which it uses the model."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self._loss = module, loss

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float | Tensor]:
        """(sum of the losses, number of items)."""
        return self._loss(self.module, inputs, targets)


class DDPGradients:
    """DistributedDataParallel; its communication hook adds (it would average) and carries the scalars.

    The wrapper does not touch the module's buffers, which it would broadcast from rank 0 before every step; they
    travel as `Buffers` does, beside the gradients. `stand_in` is a batch for steps in which this rank has no samples:
    the wrapper wants a backward pass, whose gradients are multiplied by 0.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Loss,
        seed: Seed,
        world: World,
        memory: SharedMemory | None,
        through: str,
        stand_in: MicroBatch | None,
        updated: Collection[str],
    ) -> None:
        from torch.nn.parallel import DistributedDataParallel

        self._module, self._seed, self._rank, self._memory = module, seed, world.rank, memory
        self._note: Tensor | None = None
        with dynamo.absent():
            self._wrapper = DistributedDataParallel(
                _Objective(module, loss),
                device_ids=[world.device.index] if world.device.type == "cuda" else None,
                gradient_as_bucket_view=True,
                **_without_buffers(DistributedDataParallel),
            )
        dynamo.unmark(getattr(DistributedDataParallel, "_inside_ddp_forward", None))
        self._parameters, self._buffers, self._stand_in = list(module.parameters()), Buffers(module, updated), stand_in
        self._unused_are_refused = False
        lengths = [SCALARS, self._buffers.length, world.size * notes.NUMBERS]
        self._beside = torch.zeros(sum(lengths), dtype=self._buffers.dtype, device=world.device)
        self._scalars, self._changes, by_rank = torch.split(self._beside, lengths)
        self._notes = by_rank.view(world.size, notes.NUMBERS)
        self._result = StepResult(0.0, 0.0, 0.0)
        self._all_sent, self._waited = 0.0, 0.0  # when the last bucket was ready, and how long the sums took after it
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        self._resident = None
        if memory and len({parameter.dtype for parameter in trained}) == 1:
            self._resident = memory.resident(sum(one.numel() for one in trained), trained[0].dtype)
        self._means: list[tuple[nn.Parameter, Tensor]] = []  # parameters, and where their gradients are in the total
        self._settling = SETTLING_STEPS
        self.name = f"DDP, {memory.name if memory else through}"
        self._wrapper.register_comm_hook(None, self._through_memory if memory else self._through_backend)

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others; not measured on a GPU, which is not waited for."""
        return self._memory.waited if self._memory else self._waited

    def forward_backward(
        self, micro_batches: list[MicroBatch], step: int, vote: float, note: Tensor | None = None
    ) -> StepResult:
        """See Gradients.forward_backward."""
        for parameter in self._parameters:
            parameter.grad = None
        self._filled = 0
        if self._settling:
            self._means.clear()
        self._buffers.begin()
        self._numbers, self._note = [0.0, vote, 0.0], note
        if not self._memory:
            self._scalars.zero_()
            self._scalars[1] = vote  # a kernel: a tensor from the host would be waited for on a GPU
        if note is not None:
            self._tell(note)
        for index, batch in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            with nullcontext() if last else self._wrapper.no_sync():
                self._seed.set(step, self._rank, index)
                self._forward(batch, last).backward()  # type: ignore[no-untyped-call]
        if not self._memory and not self._beside.is_cuda:
            self._waited += time.perf_counter() - self._all_sent
        if not self._unused_are_refused:
            self._refuse_unused()
        if self._resident:
            self._settling = max(0, self._settling - 1)
            for parameter, mean in self._means:
                parameter.grad = mean
        else:
            divide([one.grad for one in self._parameters if one.grad is not None], self._result.items)
        if self._buffers.length:
            divide([self._changes[: self._buffers.floats]], self._result.items)
            self._buffers.agree(self._changes)
        return self._result

    def _tell(self, note: Tensor) -> None:
        if self._memory:
            self._memory.write(note.tolist())
        else:
            self._notes[self._rank] = note

    def _forward(self, batch: MicroBatch, last: bool) -> Tensor:
        """The sum of the losses; what goes beside the gradients is ready with the last micro-batch."""
        is_empty = not len(batch.targets)
        used = self._stand_in if is_empty and self._stand_in else batch
        loss, items = self._wrapped(used)
        if is_empty:
            loss, items = loss * 0, 0
        if self._memory:
            self._numbers[0] += loss.item()
            self._numbers[2] += float(items)
        else:
            self._scalars[0] += loss.detach()
            self._scalars[2] += items
        if last and self._buffers.length:
            weight = self._numbers[2] if self._memory else self._scalars[2]
            self._changes.copy_(self._buffers.changes(weight, batch.is_first))
        return loss

    def _wrapped(self, batch: MicroBatch) -> tuple[Tensor, float | Tensor]:
        try:
            loss, items = self._wrapper(batch.inputs, batch.targets)
        except RuntimeError as error:
            if "Expected to have finished reduction" not in str(error):
                raise
            reason = "train.sync=ddp: a step did not use all parameters of the model"
            raise JobFailed(f"{reason}; train.sync=bitwise takes layers that are left out now and then") from None
        return loss, items

    def _refuse_unused(self) -> None:
        """After the first step: DDP would wait for these gradients for ever, or fail in the next one."""
        named = self._module.named_parameters()
        if unused := [name for name, parameter in named if parameter.requires_grad and parameter.grad is None]:
            raise UserError(
                f"train.sync=ddp: the loss does not depend on parameters of the model ({', '.join(unused[:3])})",
                fix="freeze them (requires_grad_(False)), or use train.sync=bitwise",
            )
        self._unused_are_refused = True

    def _through_memory(self, _state: object, bucket: dist.GradBucket) -> Pending:  # type: ignore[name-defined]
        assert self._memory is not None
        buffer: Tensor = bucket.buffer()
        sums = self._into_resident(bucket) if self._resident else self._memory.sum([buffer], [self._numbers], buffer)
        if bucket.is_last():
            self._result = StepResult(*sums)
            self._result.notes = None if self._note is None else self._memory.read()
            if self._buffers.length:
                self._memory.sum([self._changes], [NOTHING], self._changes)
        done: Pending = torch.futures.Future()
        done.set_result(buffer)
        return done

    def _into_resident(self, bucket: dist.GradBucket) -> list[float]:  # type: ignore[name-defined]
        """Copy the bucket, and sum with the last one; what the wrapper has are this rank's own gradients."""
        assert self._resident is not None
        buffer, (block,), total = bucket.buffer(), self._resident.blocks, self._resident.total
        start, self._filled = self._filled, self._filled + buffer.numel()
        block[start : self._filled].copy_(buffer)
        if self._settling:  # later it would be the same, and asking takes as long as adding
            for parameter, gradient in zip(bucket.parameters(), bucket.gradients(), strict=True):
                at = start + gradient.storage_offset() - buffer.storage_offset()
                self._means.append((parameter, total[at : at + parameter.numel()].view_as(parameter)))
        return self._resident.sum([self._numbers], self._filled) if bucket.is_last() else []

    def _through_backend(self, _state: object, bucket: dist.GradBucket) -> Pending:  # type: ignore[name-defined]
        buffer: Tensor = bucket.buffer()
        if not bucket.is_last():
            return cast(Pending, _all_reduced(buffer).then(lambda done: done.value()[0]))
        self._all_sent = time.perf_counter()
        if buffer.dtype != self._beside.dtype:  # bfloat16, say, has no room for a count
            dist.all_reduce(self._beside)
            self._take()
            return cast(Pending, _all_reduced(buffer).then(lambda done: done.value()[0]))
        length = buffer.numel()
        together = torch.cat([buffer, self._beside])

        def split(done: torch.futures.Future[list[Tensor]]) -> Tensor:
            (result,) = done.value()
            self._beside.copy_(result[length:])
            self._take()
            buffer.copy_(result[:length])
            return buffer

        return cast(Pending, _all_reduced(together).then(split))

    def _take(self) -> None:
        """The sums that came back; on a GPU they are not waited for, nor overwritten by the next step."""
        scalars = self._scalars
        self._result = StepResult(*scalars.clone()) if scalars.is_cuda else StepResult(*scalars.tolist())
        if self._note is not None:
            self._result.notes = self._notes.clone()
            self._notes.zero_()


def _without_buffers(wrapper: type[nn.Module]) -> dict[str, Any]:
    """The option that keeps the wrapper from broadcasting buffers in every step; torch 2.15 has a new name for it."""
    names = inspect.signature(wrapper).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers": False}


def _all_reduced(tensor: Tensor) -> "torch.futures.Future[list[Tensor]]":
    work = dist.all_reduce(tensor, async_op=True)
    assert work is not None
    return work.get_future()
