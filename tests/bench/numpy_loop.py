"""The same recipe by hand in numpy, the gradient in closed form: no torch, no loss, nothing saved."""

import time

import numpy as np

from tests.bench.common import dataset, leave, options, report

BATCH, RATE = 64, np.float32(0.01)


def main() -> None:
    """Train, evaluate, print a line of JSON."""
    chosen = options()
    train, test = dataset(chosen.root, True), dataset(chosen.root, False)
    images, labels = train.data.reshape(-1, 784).numpy(), train.targets.numpy()
    draws = np.random.default_rng(0)
    weight = draws.uniform(-1 / 28, 1 / 28, (10, 784)).astype(np.float32)  # as nn.Linear begins
    bias, one_hot = np.zeros(10, np.float32), np.eye(10, dtype=np.float32)
    began = time.perf_counter()
    for _ in range(chosen.epochs):
        order = draws.permutation(len(images))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            pixels = images[batch] / np.float32(255)
            errors = 1 / (1 + np.exp(-(pixels @ weight.T + bias))) - one_hot[labels[batch]]
            errors *= RATE / (10 * len(batch))  # the loss is a mean over classes and samples
            weight -= errors.T @ pixels
            bias -= errors.sum(0)
    seconds = time.perf_counter() - began
    guesses = (test.data.reshape(-1, 784).numpy() / np.float32(255) @ weight.T + bias).argmax(1)
    report(chosen.epochs * len(images) / seconds, int((guesses == test.targets.numpy()).sum()))


if __name__ == "__main__":
    main()
    leave()
