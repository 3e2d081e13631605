"""DistributedDataParallel, whose communication hook adds and carries scalars; and a world of one, which needs none."""

from typing import cast

import torch
import torch.distributed as dist  # noqa: TID251
from torch import Tensor, nn

from src.data.loader import MicroBatch
from src.errors import UserError
from src.gradients.shared_memory import SharedMemory
from src.gradients.step import SCALARS, Loss, Seed, StepResult, backward, rescale
from src.world.world import World

Pending = torch.futures.Future[Tensor]


class SingleProcess:
    """A world of one: nothing to exchange."""

    name = "none (one rank)"
    waited = 0.0

    def __init__(self, module: nn.Module, loss: Loss, seed: Seed) -> None:
        self._module, self._loss, self._seed = module, loss, seed
        self._parameters = list(module.parameters())

    def forward_backward(self, micro_batches: list[MicroBatch], samples: int, step: int, vote: bool) -> StepResult:
        """See Gradients.forward_backward."""
        (batch,) = micro_batches
        self._seed.set(step, 0)
        loss, items = self._loss(self._module, batch.inputs, batch.targets)
        backward(loss, samples, self._parameters)
        if loss.is_cuda:
            result = StepResult(loss.detach(), float(vote), torch.as_tensor(items, device=loss.device))
        else:
            result = StepResult(loss.item(), float(vote), float(items))
        rescale(self._parameters, samples, result.items)
        return result


class _Objective(nn.Module):
    """The loss as a module, so that the wrapper sees every way in which it uses the model."""

    def __init__(self, module: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.module, self._loss = module, loss

    def forward(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float | Tensor]:
        """(sum of the losses, number of items)."""
        return self._loss(self.module, inputs, targets)


class DDPGradients:
    """DistributedDataParallel; its communication hook adds (it would average) and carries the scalars."""

    def __init__(
        self, module: nn.Module, loss: Loss, seed: Seed, world: World, memory: SharedMemory | None, through: str
    ) -> None:
        from torch.nn.parallel import DistributedDataParallel

        self._module, self._seed, self._rank, self._memory = module, seed, world.rank, memory
        self._wrapper = DistributedDataParallel(
            _Objective(module, loss),
            device_ids=[world.device.index] if world.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
        )
        self._parameters = list(module.parameters())
        self._unused_are_refused = False
        self._scalars = torch.zeros(SCALARS, device=world.device)
        self._numbers = [0.0] * SCALARS
        self._result = StepResult(0.0, 0.0, 0.0)
        self.name = f"DDP, {through}"
        self._wrapper.register_comm_hook(None, self._through_memory if memory else self._through_backend)

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others."""
        return self._memory.waited if self._memory else 0.0

    def forward_backward(self, micro_batches: list[MicroBatch], samples: int, step: int, vote: bool) -> StepResult:
        """See Gradients.forward_backward."""
        (batch,) = micro_batches
        self._seed.set(step, self._rank)
        loss, items = self._wrapper(batch.inputs, batch.targets)
        if self._memory:
            self._numbers = [loss.item(), float(vote), float(items)]
        else:
            self._scalars[0] = loss.detach()
            self._scalars[1] = float(vote)
            self._scalars[2] = items
        backward(loss, samples, self._parameters)
        if not self._unused_are_refused:
            self._refuse_unused()
        rescale(self._parameters, samples, self._result.items)
        return self._result

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
        sums = self._memory.sum([buffer], [self._numbers], buffer)
        if bucket.is_last():
            self._result = StepResult(*sums)
        done: Pending = torch.futures.Future()
        done.set_result(buffer)
        return done

    def _through_backend(self, _state: object, bucket: dist.GradBucket) -> Pending:  # type: ignore[name-defined]
        buffer: Tensor = bucket.buffer()
        if not bucket.is_last():
            return cast(Pending, _all_reduced(buffer).then(lambda done: done.value()[0]))
        length = buffer.numel()
        with_scalars = torch.cat([buffer, self._scalars.to(buffer.dtype)])

        def split(done: torch.futures.Future[list[Tensor]]) -> Tensor:
            (result,) = done.value()
            scalars = result[length:]
            self._result = StepResult(*scalars) if scalars.is_cuda else StepResult(*scalars.tolist())
            buffer.copy_(result[:length])
            return buffer

        return cast(Pending, _all_reduced(with_scalars).then(split))


def _all_reduced(tensor: Tensor) -> "torch.futures.Future[list[Tensor]]":
    work = dist.all_reduce(tensor, async_op=True)
    assert work is not None
    return work.get_future()
