"""What the compared jobs share: torchvision's data set, the clock, the printed result."""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import nn
from torch.utils.data import DataLoader


@dataclass
class Clock:
    """Seconds that a training loop took."""

    seconds: float = 0.0


def options() -> argparse.Namespace:
    """--root (torchvision's data folder) and --epochs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", required=True)
    parser.add_argument("--epochs", type=int, default=1)
    return parser.parse_args()


def dataset(root: str, train: bool) -> Any:
    """MNIST as every tutorial has it: PIL image, ToTensor."""
    from torchvision import datasets, transforms

    return datasets.MNIST(root, train=train, transform=transforms.ToTensor())


@contextmanager
def stopwatch() -> Iterator[Clock]:
    """Time what is inside: the training loop with its data loading, nothing before or after it."""
    clock, began = Clock(), time.perf_counter()
    yield clock
    clock.seconds = time.perf_counter() - began


def correct_of(model: nn.Module, test: Any) -> int:
    """How many of the test set the model gets right."""
    with torch.no_grad():
        return sum(
            int((model(images).argmax(1) == labels).sum()) for images, labels in DataLoader(test, batch_size=1000)
        )


def report(samples_per_second: float, correct: int) -> None:
    """The last line of a job's output."""
    print(json.dumps({"samples_per_second": round(samples_per_second), "correct": correct}), flush=True)


def leave() -> NoReturn:
    """End at once, as this project's job does: taking torch apart takes 0.5 s and aborts now and then."""
    sys.stdout.flush()
    os._exit(0)
