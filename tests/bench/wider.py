"""From which size of model on do more ranks help? The job's own parts around wider models, on 1 and 2 ranks."""

import itertools
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from src import config
from src.data import dataset as data
from src.data.loader import ShardedLoader
from src.gradients import build as gradients
from src.optimizer import Optimizer
from src.world.world import World
from tests.bench.page import conditions, table, write
from tests.helpers.bare_models import SPEC, logistic
from tests.helpers.ranks import in_world

WIDTHS = (0, 16, 64, 256, 1260, 2800)  # hidden units; 0 is the job's own model, the last has two hidden layers
DEEP = WIDTHS[-1]
WARM_UP = 20
WAYS = {
    "1 rank": (1, ()),
    "2 ranks": (2, ()),
    "2, bitwise": (2, ("train.sync=bitwise", "train.shards=2")),
    "2, gloo": (2, ("train.exchange=backend",)),
    "4 ranks": (4, ()),
    "4, gloo": (4, ("train.exchange=backend",)),
}


def measure(root: str, rounds: int) -> None:
    """Measure in turns and write docs/ranks.md."""
    rates: dict[tuple[int, str], list[float]] = {}
    for _ in range(rounds):
        for width, (way, (ranks, settings)) in itertools.product(WIDTHS, WAYS.items()):
            rates.setdefault((width, way), []).append(rate(root, width, ranks, *settings))
    medians = {key: statistics.median(found) for key, found in rates.items()}
    gains = {width: medians[width, "2 ranks"] / medians[width, "1 rank"] for width in WIDTHS}
    rows = [
        [
            f"{parameters(width):,} parameters, batch {batch(width)}",
            *(f"{medians[width, way]:,.0f}" for way in WAYS),
            f"{gain:.2f} x",
        ]
        for width, gain in gains.items()
    ]
    text = conditions(f"samples/s, medians of {rounds} turns; gain: 2 ranks beside 1")
    write("wider", text + table(["samples/s", *WAYS, "gain"], rows) + "\n" + statement(gains))


def batch(width: int) -> int:
    """Samples of a global batch."""
    return 256 if width == DEEP else 64


def count(width: int) -> int:
    """How many steps are timed."""
    return 10 if width == DEEP else 200


def statement(gains: dict[int, float]) -> str:
    """What the table says, in plain words."""
    first = "This job's model does not get faster with more ranks" if gains[0] <= 1 else "Here two ranks are faster"
    first += f": two are {gains[0]:.2f} times as fast as one.\n"
    helped = list(itertools.takewhile(lambda width: gains[width] > 1, reversed(WIDTHS)))
    if not helped:
        return first + f"None of these models does, up to {parameters(WIDTHS[-1]):,} parameters.\n"
    return first + f"Two ranks beat one from about {parameters(helped[-1]):,} parameters on.\n"


def parameters(width: int) -> int:
    """How many the model has."""
    return sum(parameter.numel() for parameter in build(width).parameters())


def build(width: int) -> nn.Module:
    """The job's model, or one with a hidden layer."""
    torch.manual_seed(0)
    if not width:
        return logistic().build(SPEC, 0)
    second = [nn.Linear(width, width), nn.ReLU()] if width == DEEP else []
    return nn.Sequential(Scaled(), nn.Linear(784, width), nn.ReLU(), *second, nn.Linear(width, 10))


class Scaled(nn.Module):
    """Bytes as floats in [0, 1], flat."""

    def forward(self, images: Tensor) -> Tensor:
        """(n, 28, 28) -> (n, 784)."""
        return images.flatten(1).float().div_(255)


def bce(module: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """The tutorial's loss: its sum over the samples, and their number."""
    logits = module(images)
    one_hot = logits.new_zeros(logits.shape).scatter_(1, labels.unsqueeze(1), 1.0)
    return functional.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum") / 10, len(labels)


def rate(root: str, width: int, ranks: int, *more: str) -> float:
    """Samples per second of the steps on so many ranks."""
    size, steps = batch(width), count(width)
    fixed = [f"data.root={root}", "data.fallback=none", f"train.global_batch_size={size}"]
    settings = config.parse([*fixed, *more])

    def work(world: World) -> float:
        train = data.load(settings.data, world, print).train
        module = build(width)
        number, local = gradients.local_shards(settings.train, world)
        batches = ShardedLoader(train, settings.train, local, number, world.device)
        way = gradients.build_gradients(module, bce, settings.train, world)
        optimizer, began = Optimizer([{"params": list(module.parameters())}], settings.optim, WARM_UP + steps), 0.0
        for step, parts in enumerate(itertools.islice(batches.epoch(0), WARM_UP + steps)):
            if step == WARM_UP:
                began = time.perf_counter()
            optimizer.step(step, way.forward_backward(parts, step, False))
        return steps * size / (time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder:
        found: float = in_world(ranks, work, Path(folder)).values[0]
    return found
