"""How the ranks agree on a gradient: DistributedDataParallel with its communication hook, or bitwise.

Either way `forward_backward` leaves in every parameter's .grad, on every rank, the gradient of the mean loss over
the items of the *global* batch: the ranks add, and divide once. What else they must agree on in a step travels with
the gradients: the sum of the losses, how many items they are a sum over, how many ranks want to stop, and the
module's buffers.
"""

from collections.abc import Collection, Iterable
from typing import Protocol

from torch import Tensor, nn

from src import schema
from src.data.loader import MicroBatch
from src.errors import UserError
from src.gradients.bitwise import Bitwise
from src.gradients.ddp import DDPGradients
from src.gradients.exchange import Backend, Local
from src.gradients.graph import RecordedGradients
from src.gradients.shared_file import Unavailable
from src.gradients.shared_memory import SharedMemory, objection
from src.gradients.single import SingleProcess
from src.gradients.step import Autograd, ClosedForm, Differentiated, Loss, OwnGradients, Seed, StepResult, in_precision
from src.gradients.tree import Tree
from src.world.world import World


class Gradients(Protocol):
    """The gradients of one step."""

    name: str

    def forward_backward(
        self, micro_batches: list[MicroBatch], step: int, vote: float, note: Tensor | None = None
    ) -> StepResult:
        """Leave in every parameter's .grad the gradient of the mean loss over the items of the global batch.

        `micro_batches` are this rank's share of the global batch; `vote` says what it wants (src.gradients.votes),
        `note` what it tells the others (src.gradients.notes), in the same steps on all ranks.
        """

    @property
    def waited(self) -> float:
        """Seconds that this rank has waited for others so far (0 where it is not measured)."""


def shards_of(settings: schema.Train, world_size: int) -> list[range]:
    """The shards of each rank: one each, or with bitwise always train.shards in all.

    Raises UserError for more ranks than shards.
    """
    if settings.sync == "ddp":
        return [range(rank, rank + 1) for rank in range(world_size)]
    if world_size > settings.shards:
        raise UserError(
            f"train.shards={settings.shards}: {world_size} ranks cannot share them",
            fix=f"start at most {settings.shards} ranks, or train.shards={world_size} (another run: other sums)",
        )
    starts = [settings.shards * rank // world_size for rank in range(world_size + 1)]
    return [range(starts[rank], starts[rank + 1]) for rank in range(world_size)]


def local_shards(settings: schema.Train, world: World) -> tuple[int, range]:
    """(number of shards, those of this rank). Raises UserError for more ranks than shards."""
    dealt = shards_of(settings, world.size)
    return dealt[-1].stop, dealt[world.rank]


def tree_of(settings: schema.Train, world_size: int) -> Tree:
    """The tree in which so many ranks add. Raises UserError for more ranks than shards."""
    dealt = shards_of(settings, world_size)
    return Tree(dealt[-1].stop, dealt)


def build_gradients(
    module: nn.Module,
    loss: Loss,
    settings: schema.Train,
    world: World,
    stand_in: MicroBatch | None = None,
    random_modules: Iterable[str] = (),
    updated: Collection[str] = (),
    own_gradients: OwnGradients | None = None,
) -> Gradients:
    """What train.sync and train.exchange ask for. Raises UserError where it is impossible.

    `stand_in` is for ranks that have no samples in a step (see DDPGradients), `random_modules` see Seed;
    `updated` names frozen parameters that a forward pass changes (see Buffers); `own_gradients` are
    the model's, used where no wrapper, autocast or compiler is: those are around the loss.
    """
    _refuse_sparse(module)
    _refuse_complex(module)
    number, local = local_shards(settings, world)
    loss = in_precision(loss, settings.precision, world.device)
    seed = Seed(settings.seed, world.device, random_modules)
    gradients_of = _differentiated(module, loss, settings, own_gradients)
    if world.size == 1:
        return (
            Bitwise(module, loss, seed, number, local, Local(), updated, gradients_of)
            if settings.sync == "bitwise"
            else SingleProcess(module, loss, seed, gradients_of)
        )
    tree = tree_of(settings, world.size)
    memory, reason = _shared_memory(settings, world, tree)
    through = memory.name if memory else world.backend + (f" ({reason})" if reason else "")
    if settings.sync == "bitwise":
        exchange = memory or Backend(world, tree, through)
        return Bitwise(module, loss, seed, number, local, exchange, updated, gradients_of)
    return DDPGradients(module, loss, seed, world, memory, through, stand_in, updated)


def _differentiated(
    module: nn.Module,
    loss: Loss,
    settings: schema.Train,
    own_gradients: OwnGradients | None,
) -> Differentiated | None:
    """How a micro-batch is differentiated where not simply by autograd: as the model does, as a CUDA graph, or both."""
    around_loss = settings.compile or settings.precision != "float32"
    closed_form = ClosedForm(module, own_gradients) if own_gradients and not around_loss else None
    if not settings.cuda_graph:
        return closed_form
    zeros = settings.sync == "bitwise"
    return RecordedGradients(closed_form or Autograd(module, loss, "train.cuda_graph=true", zeros=zeros), module)


def _refuse_sparse(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if getattr(part, "sparse", False) is True:
            raise UserError(f"model: {name} has sparse gradients, which are not summed here", fix="give sparse=False")


def _refuse_complex(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and parameter.is_complex():
            raise UserError(
                f"model: the parameter {name} is complex, and gradients are summed as real numbers",
                fix="keep it as a real one with a last dimension of 2, and call torch.view_as_complex in forward",
            )


def _shared_memory(settings: schema.Train, world: World, tree: Tree) -> tuple[SharedMemory | None, str]:
    """The memory that the ranks share, or None and why there is none; the same on all ranks."""
    if settings.exchange == "backend":
        return None, ""
    reason = objection(world)
    if not reason:
        try:
            return SharedMemory(world, tree, settings.timeout_seconds), ""
        except Unavailable as error:
            reason = str(error)
    if settings.exchange == "shared_memory":
        raise UserError(f"train.exchange=shared_memory: {reason}", fix="use auto or backend")
    return None, "" if world.backend == "nccl" else reason
