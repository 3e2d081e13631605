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

WIDTHS = (0, 16, 64, 256, 1024)  # hidden units; 0 is the job's own model
WARM_UP, STEPS = 20, 200


def measure(root: str, rounds: int) -> None:
    """Measure in turns and write docs/benchmarks.md."""
    rates: dict[tuple[int, int], list[float]] = {}
    for _ in range(rounds):
        for width, ranks in itertools.product(WIDTHS, (1, 2)):
            rates.setdefault((width, ranks), []).append(rate(root, width, ranks))
    medians = {key: statistics.median(found) for key, found in rates.items()}
    gains = {width: medians[width, 2] / medians[width, 1] for width in WIDTHS}
    rows = [
        [
            str(width or "none: this job's model"),
            f"{parameters(width):,}",
            *(f"{medians[width, ranks]:,.0f}" for ranks in (1, 2)),
            f"{gains[width]:.2f} x",
        ]
        for width in WIDTHS
    ]
    text = conditions(f"train.sync=ddp, global batch 64, {STEPS} steps, medians of {rounds} turns")
    text += table(["hidden units", "parameters", "samples/s, 1 rank", "samples/s, 2 ranks", "gain"], rows)
    write("wider", text + "\n" + statement(gains))


def statement(gains: dict[int, float]) -> str:
    """What the table says, in plain words."""
    first = "This job's model does not get faster with more ranks" if gains[0] <= 1 else "Here two ranks are faster"
    first += f": two are {gains[0]:.2f} times as fast as one.\n"
    helped = list(itertools.takewhile(lambda width: gains[width] > 1, reversed(WIDTHS)))
    if not helped:
        return first + f"None of these models does, up to {parameters(WIDTHS[-1]):,} parameters.\n"
    return first + f"At this batch size, two ranks beat one from about {parameters(helped[-1]):,} parameters on.\n"


def parameters(width: int) -> int:
    """How many the model has."""
    return sum(parameter.numel() for parameter in build(width).parameters())


def build(width: int) -> nn.Module:
    """The job's model, or one with a hidden layer."""
    torch.manual_seed(0)
    if not width:
        return logistic().build(SPEC, 0)
    return nn.Sequential(Scaled(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, 10))


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


def rate(root: str, width: int, ranks: int) -> float:
    """Samples per second of the steps on so many ranks."""
    settings = config.parse([f"data.root={root}", "data.fallback=none"])

    def work(world: World) -> float:
        train = data.load(settings.data, world, print).train
        module = build(width)
        number, local = gradients.local_shards(settings.train, world)
        batches = ShardedLoader(train, settings.train, local, number, world.device)
        way = gradients.build_gradients(module, bce, settings.train, world)
        optimizer, began = Optimizer([{"params": list(module.parameters())}], settings.optim, STEPS), 0.0
        for step, parts in enumerate(itertools.islice(batches.epoch(0), WARM_UP + STEPS)):
            if step == WARM_UP:
                began = time.perf_counter()
            optimizer.step(step, way.forward_backward(parts, step, False))
        return STEPS * settings.train.global_batch_size / (time.perf_counter() - began)

    with tempfile.TemporaryDirectory() as folder:
        found: float = in_world(ranks, work, Path(folder)).values[0]
    return found
