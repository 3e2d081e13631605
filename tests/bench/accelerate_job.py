"""The same job with Hugging Face Accelerate, under torchrun."""

import os

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from tests.bench.common import correct_of, dataset, leave, options, report, stopwatch


def main() -> None:
    """Train, evaluate on the main process, print a line of JSON."""
    chosen = options()
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    accelerator = Accelerator(cpu=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train = dataset(chosen.root, True)
    raw = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Sigmoid())
    model, optimizer, loader = accelerator.prepare(
        raw,
        torch.optim.SGD(raw.parameters(), lr=0.01),
        DataLoader(train, batch_size=64 // accelerator.num_processes, shuffle=True),
    )
    criterion = nn.BCELoss()
    with stopwatch() as clock:
        for epoch in range(chosen.epochs):
            for step, (images, labels) in enumerate(loader):
                optimizer.zero_grad()
                loss = criterion(model(images), functional.one_hot(labels, 10).float())
                accelerator.backward(loss)
                optimizer.step()
                if (step + 1) % 100 == 0:
                    accelerator.print(f"epoch {epoch} step {step + 1} loss {loss.item():.4f}", flush=True)
    if accelerator.is_main_process:
        report(chosen.epochs * len(train) / clock.seconds, correct_of(raw, dataset(chosen.root, False)))
    accelerator.end_training()


if __name__ == "__main__":
    main()
    leave()
