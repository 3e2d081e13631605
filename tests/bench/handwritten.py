"""The floor: a bare loop over the same data and the same exchange, with no DDP, record, checkpoint or signal."""

import torch
from torch import nn
from torch.nn import functional

from src import config
from src.data import dataset as data
from src.data.loader import ShardedLoader
from src.gradients.build import tree_of
from src.gradients.shared_memory import SharedMemory
from src.world import world as distributed
from tests.bench.common import leave, options, report, stopwatch


def main() -> None:
    """Train, print a line of JSON."""
    chosen = options()
    settings = config.parse([f"data.root={chosen.root}", f"train.epochs={chosen.epochs}"])
    with distributed.join(settings.train) as world:
        train = data.load(settings.data, world, print).train
        own = range(world.rank, world.rank + 1)
        batches = ShardedLoader(train, settings.train, own, world.size, world.device)
        memory = SharedMemory(world, tree_of(settings.train, world.size), 60) if world.size > 1 else None
        torch.manual_seed(0)
        model = nn.Linear(784, 10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=True)
        flat = torch.zeros(7850)
        model.weight.grad, model.bias.grad = flat[:7840].view(10, 784), flat[7840:]
        with stopwatch() as clock:
            for epoch in range(chosen.epochs):
                for step, (part,) in enumerate(batches.epoch(epoch)):
                    flat.zero_()
                    logits = model(part.inputs.flatten(1).float().div_(255))
                    targets = functional.one_hot(part.targets, 10).float()
                    loss = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / 10
                    (loss / batches.count(step)).backward()  # type: ignore[no-untyped-call]
                    if memory:
                        memory.sum([flat], [(0.0, 0.0, 0.0)], flat)
                    optimizer.step()
        if world.rank == 0:
            report(chosen.epochs * len(train) / clock.seconds, 0)


if __name__ == "__main__":
    main()
    leave()
