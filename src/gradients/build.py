"""How the ranks agree on a gradient: DistributedDataParallel with its communication hook, or bitwise.

Either way `forward_backward` leaves in every parameter's .grad, on every rank, the gradient of the mean loss over
the *global* batch: each rank divides by the global count, and the ranks add. What else they must agree on in
a step travels with the gradients: the sum of the losses, and how many ranks want to stop.
"""

from typing import Protocol

from torch import nn

from src import schema
from src.data.loader import MicroBatch
from src.errors import UserError
from src.gradients.bitwise import AllGather, Bitwise, Local
from src.gradients.ddp import DDPGradients, SingleProcess
from src.gradients.shared_memory import SharedMemory, Unavailable, objection
from src.gradients.step import Loss, Seed, StepResult
from src.world.world import World


class Gradients(Protocol):
    """The gradients of one step."""

    name: str

    def forward_backward(self, micro_batches: list[MicroBatch], samples: int, step: int, vote: bool) -> StepResult:
        """Leave in every parameter's .grad the gradient of the mean loss over the items of the global batch.

        `micro_batches` are this rank's share of the global batch's `samples`; `vote` says that it wants to stop.
        """

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others so far (0 where it is not measured)."""


def local_shards(settings: schema.Train, world: World) -> tuple[int, range]:
    """(number of shards, those of this rank): one per rank, or with bitwise always train.shards.

    Raises UserError for more ranks than shards.
    """
    if settings.sync == "ddp":
        return world.size, range(world.rank, world.rank + 1)
    if world.size > settings.shards:
        raise UserError(
            f"train.shards={settings.shards}: {world.size} ranks cannot share them",
            fix=f"start at most {settings.shards} ranks, or train.shards={world.size} (another run: other sums)",
        )
    starts = [settings.shards * rank // world.size for rank in range(world.size + 1)]
    return settings.shards, range(starts[world.rank], starts[world.rank + 1])


def build_gradients(module: nn.Module, loss: Loss, settings: schema.Train, world: World) -> Gradients:
    """What train.sync and train.exchange ask for. Raises UserError where it is impossible."""
    number, local = local_shards(settings, world)
    seed = Seed(settings.seed, world.device)
    if world.size == 1:
        return (
            Bitwise(module, loss, seed, local, Local())
            if settings.sync == "bitwise"
            else SingleProcess(module, loss, seed)
        )
    memory, reason = _shared_memory(settings, world, number, local)
    through = memory.name if memory else world.backend + (f" ({reason})" if reason else "")
    if settings.sync == "bitwise":
        return Bitwise(module, loss, seed, local, memory or AllGather(world, number, local, through))
    return DDPGradients(module, loss, seed, world, memory, through)


def _shared_memory(settings: schema.Train, world: World, number: int, local: range) -> tuple[SharedMemory | None, str]:
    """The memory that the ranks share, or None and why there is none; the same on all ranks."""
    if settings.exchange == "backend":
        return None, ""
    reason = objection(world)
    if not reason:
        try:
            return SharedMemory(world, number, local, settings.timeout_seconds), ""
        except Unavailable as error:
            reason = str(error)
    if settings.exchange == "shared_memory":
        raise UserError(f"train.exchange=shared_memory: {reason}", fix="use auto or backend")
    return None, "" if world.backend == "nccl" else reason
