"""Data sets for the tests: small ones made here, and where the real MNIST is."""

import os
from pathlib import Path

import torch

from src.data import idx
from tests.helpers.ranks import ROOT

NOWHERE = "http://127.0.0.1:9/"  # the discard port: refuses at once


def write_idx(file: Path, values: torch.Tensor) -> None:
    """Write a tensor as an IDX file: of bytes, or of float32 where it is of floats."""
    floats = values.is_floating_point()
    numbers = values.numpy().astype(">f4") if floats else values.byte().numpy()
    header = bytes((0, 0, 0x0D if floats else 0x08, values.dim())) + b"".join(
        size.to_bytes(4, "big") for size in values.shape
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header + numbers.tobytes())


def write_data_set(raw: Path, train: int, test: int, seed: int = 0) -> None:
    """Random pictures, each class with a mean of its own: learnable, and made in milliseconds."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randint(0, 256, (10, 28, 28), generator=torch.Generator().manual_seed(1))
    for names, count in ((idx.TRAIN, train), (idx.TEST, test)):
        labels = torch.randint(0, 10, (count,), generator=generator)
        noise = torch.randint(-60, 60, (count, 28, 28), generator=generator)
        write_idx(raw / names[0], (means[labels] + noise).clamp(0, 255))
        write_idx(raw / names[1], labels)


def mnist_mirrors() -> list[str]:
    """Where the tests may find the packed files."""
    named = os.environ.get("MNIST_MIRROR")
    return [named] if named else [str(ROOT.parent / "shared" / "mnist")]
