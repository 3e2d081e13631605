"""Gradients of a few steps: on any number of ranks, and in plain torch in one process."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from src import config
from src.data.loader import ShardedLoader
from src.data.splits import Split
from src.gradients import build as gradients
from src.gradients.step import OwnGradients
from src.world.world import World
from tests.helpers.bare_models import bce

CPU = torch.device("cpu")
BATCH = 50
STEPS = 3


def split() -> Split:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (130, 784), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(0, 10, (130,), generator=generator))


def wide() -> nn.Module:
    """Larger than the shared memory's slots, in several of DDP's buckets."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 900), nn.ReLU(), nn.Linear(900, 900), nn.ReLU(), nn.Linear(900, 10))


def tutorial() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(784, 10)


def steps(
    make: Callable[[], nn.Module], *settings: str, own_gradients: OwnGradients | None = None
) -> Callable[[World], tuple[list[Tensor], list[float], str]]:
    """Work for a rank: returns each step's flat gradient, each step's loss sum, and the exchange's name.

    `own_gradients` are the model's own gradients.
    """

    def work(world: World) -> tuple[list[Tensor], list[float], str]:
        chosen = config.parse([f"train.global_batch_size={BATCH}", *settings]).train
        module = make()
        number, own = gradients.local_shards(chosen, world)
        batches = ShardedLoader(split(), chosen, own, number, CPU)
        way = gradients.build_gradients(module, bce, chosen, world, own_gradients=own_gradients)
        found, losses = [], []
        for step, parts in enumerate(batches.epoch(0)):
            total = way.forward_backward(parts, step, False)
            found.append(torch.cat([p.grad.flatten().clone() for p in module.parameters() if p.grad is not None]))
            losses.append(float(total.loss))
        return found, losses, way.name

    return work


def big_batch(make: Callable[[], nn.Module]) -> tuple[list[Tensor], list[float]]:
    """The same gradients and losses in one process, in plain torch."""
    module, data = make(), split()
    order = torch.randperm(130, generator=torch.Generator().manual_seed(0))
    found, losses = [], []
    for chosen in torch.split(order, BATCH):
        module.zero_grad()
        probabilities = torch.sigmoid(module(data.inputs[chosen].float() / 255))
        loss = nn.BCELoss()(probabilities, functional.one_hot(data.targets[chosen], 10).float())
        loss.backward()
        found.append(torch.cat([p.grad.flatten().clone() for p in module.parameters() if p.grad is not None]))
        losses.append(loss.item() * len(chosen))
    return found, losses
