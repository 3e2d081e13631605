"""The tutorial's loop in one process: a DataLoader that decodes, converts and collates every image."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from tests.bench.common import correct_of, dataset, leave, options, report, stopwatch


def main() -> None:
    """Train, evaluate, print a line of JSON."""
    chosen = options()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    train, test = dataset(chosen.root, True), dataset(chosen.root, False)
    loader = DataLoader(train, batch_size=64, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Sigmoid())
    optimizer, criterion = torch.optim.SGD(model.parameters(), lr=0.01), nn.BCELoss()
    with stopwatch() as clock:
        for epoch in range(chosen.epochs):
            for step, (images, labels) in enumerate(loader):
                loss = criterion(model(images), functional.one_hot(labels, 10).float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if (step + 1) % 100 == 0:
                    print(f"epoch {epoch} step {step + 1} loss {loss.item():.4f}", flush=True)
    report(chosen.epochs * len(train) / clock.seconds, correct_of(model, test))


if __name__ == "__main__":
    main()
    leave()
