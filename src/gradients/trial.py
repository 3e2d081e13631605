"""The smallest share that a shard has in a step, tried before training: BatchNorm, for one, refuses a single sample."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from src import schema
from src.data.loader import MicroBatch
from src.data.order import share_sizes
from src.data.splits import Split
from src.errors import ModelFailed, UserError
from src.gradients.buffers import Buffers, place_of
from src.gradients.step import Loss
from src.models import built

MOST = 16  # samples: a model that needs more than so many at once fails by itself


@dataclass
class Trial:
    """`smallest` is the number of samples that were tried; `stand_in` a batch for ranks that have no samples in a
    step, None where that does not occur; `updated` names the frozen parameters that the forward pass changed, such as
    a teacher's that follow a student.
    """

    smallest: int = 1
    stand_in: MicroBatch | None = None
    updated: list[str] = field(default_factory=list)


def try_shares(
    module: nn.Module, loss: Loss, split: Split, settings: schema.Train, shards: int, device: torch.device
) -> Trial:
    """Try the loss in training mode on the smallest share that occurs; the module is left as it was.

    Raises UserError for a share that is too small, naming batch sizes that work, for a forward pass that adds to the
    state dict, and with bitwise for one that changes what is trained; ModelFailed where no share works.
    """
    _refuse_synchronised(module, settings, shards, device)
    sizes = _sizes(len(split), settings.global_batch_size, settings.micro_batch_size, shards)
    smallest = min(sizes - {0})
    changed: list[str] = []
    if error := _failure(module, loss, split, smallest, device, changed):
        needed = _needed(module, loss, split, smallest + 1, device)
        if not needed:
            raise error
        raise _refusal(error, len(split), settings, shards, smallest, needed)
    trial = Trial(smallest, updated=_frozen(module, changed, settings))
    if 0 in sizes:
        enough = _needed(module, loss, split, 1, device)
        trial.stand_in = MicroBatch(*split.first(enough, device))
    return trial


def _refuse_synchronised(module: nn.Module, settings: schema.Train, shards: int, device: torch.device) -> None:
    """Raise UserError for a SyncBatchNorm that would wait for shards of this rank, or for ranks without GPUs."""
    if shards == 1 or (settings.sync == "ddp" and device.type == "cuda"):
        return
    for name, part in module.named_modules():
        if isinstance(part, nn.SyncBatchNorm):
            where = "with train.sync=bitwise" if settings.sync == "bitwise" else "on CPUs"
            raise UserError(
                f"model: {name} is a SyncBatchNorm, which does not work {where}",
                fix="leave convert_sync_batchnorm out: docs/your-model.md says which samples a BatchNorm sees",
            )


def _frozen(module: nn.Module, changed: list[str], settings: schema.Train) -> list[str]:
    """Those of the changed parameters that are not trained."""
    frozen = [name for name in changed if not module.get_parameter(name).requires_grad]
    if settings.sync == "bitwise" and (trained := [name for name in changed if name not in frozen]):
        raise UserError(
            f"train.sync=bitwise: the forward pass changes parameters that are trained ({', '.join(trained[:3])})",
            fix="freeze them (requires_grad_(False)) or make them buffers; what normalises a weight is "
            "torch.nn.utils.parametrize",
        )
    return frozen


def _sizes(samples: int, batch: int, micro_batch: int, shards: int) -> set[int]:
    """How many samples a forward pass gets, 0 included: every number that occurs in an epoch."""
    shares = share_sizes(samples, batch, shards)
    if not micro_batch:
        return shares
    parts = {
        size for share in shares for size in (min(share, micro_batch), share % micro_batch or micro_batch) if share
    }
    return parts | (shares & {0})


def _needed(module: nn.Module, loss: Loss, split: Split, least: int, device: torch.device) -> int:
    """The smallest number of samples, `least` or more, that the model takes; 0 if there is none."""
    return next((size for size in range(least, MOST + 1) if not _failure(module, loss, split, size, device)), 0)


def _failure(
    module: nn.Module, loss: Loss, split: Split, size: int, device: torch.device, changed: list[str] | None = None
) -> ModelFailed | None:
    """What the model's file raises for so many samples; `changed` takes the names of parameters that it changes."""
    try:
        with left_as_it_was(module, [] if changed is None else changed), torch.no_grad():
            module.train()
            with built.of_one_size(module):
                loss(module, *split.first(size, device))
    except ModelFailed as error:
        return error
    return None


@contextmanager
def left_as_it_was(module: nn.Module, changed: list[str]) -> Iterator[None]:
    """Undo what happens to the module; `changed` takes the names of the parameters to which something happened."""
    named = [(name, parameter, parameter.detach().clone()) for name, parameter in module.named_parameters()]
    was_training, buffers = module.training, Buffers(module)
    buffers.begin()
    try:
        yield
    finally:
        module.train(was_training)
        buffers.restore()
        for name, parameter, before in named:
            owner, last = place_of(module, name)
            if owner[last] is not parameter or not _same_bits(parameter, before):
                changed.append(name)
                owner[last] = parameter
                parameter.data.copy_(before)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    first, second = (tensor.detach().contiguous().flatten().view(torch.uint8) for tensor in (one, other))
    return torch.equal(first, second)


def _refusal(
    error: ModelFailed, samples: int, settings: schema.Train, shards: int, smallest: int, needed: int
) -> UserError:
    batch, micro_batch = settings.global_batch_size, settings.micro_batch_size
    what = "micro-batch" if micro_batch else "shard" if settings.sync == "bitwise" else "rank"
    good = next((size for size in _near(batch) if min(_sizes(samples, size, micro_batch, shards) - {0}) >= needed), 0)
    fewer = "fewer shards" if settings.sync == "bitwise" else "fewer ranks"
    return UserError(
        f"train.global_batch_size={batch}: in a step of the {samples} training samples a {what} has only {smallest}, "
        f"and the model fails with so few ({error.args[0]})",
        fix=f"it takes {needed}: use {f'a batch of {good} or so' if good else 'a larger batch'}, or {fewer}",
    )


def _near(batch: int) -> Iterator[int]:
    """Other batch sizes, the nearest first."""
    for distance in range(1, 4 * batch + 64):
        yield from (size for size in (batch + distance, batch - distance) if size > 0)
