"""PyTorch's DDP tutorial: DataLoader, DistributedSampler, DistributedDataParallel over gloo."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

from tests.bench.common import correct_of, dataset, leave, options, report, stopwatch


def main() -> None:
    """Train, evaluate on rank 0, print a line of JSON."""
    chosen = options()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    train = dataset(chosen.root, True)
    sampler = DistributedSampler(train)  # type: ignore[var-annotated]
    loader = DataLoader(train, batch_size=64 // dist.get_world_size(), sampler=sampler)
    raw = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Sigmoid())
    model = DistributedDataParallel(raw)
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.01), nn.BCELoss()
    with stopwatch() as clock:
        for epoch in range(chosen.epochs):
            sampler.set_epoch(epoch)
            for step, (images, labels) in enumerate(loader):
                optimizer.zero_grad()
                loss = criterion(model(images), functional.one_hot(labels, 10).float())
                loss.backward()
                optimizer.step()
                if (step + 1) % 100 == 0 and dist.get_rank() == 0:
                    print(f"epoch {epoch} step {step + 1} loss {loss.item():.4f}", flush=True)
    if dist.get_rank() == 0:
        report(chosen.epochs * len(train) / clock.seconds, correct_of(raw, dataset(chosen.root, False)))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
    leave()
