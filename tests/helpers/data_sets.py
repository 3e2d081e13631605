"""Data sets for the tests: small ones made here, and where the real MNIST is."""

import os
from pathlib import Path

import torch

from src.data import idx
from tests.helpers.ranks import ROOT

NOWHERE = "http://127.0.0.1:9/"  # the discard port: refuses at once


TYPES = {
    torch.int8: (0x09, ">i1"),
    torch.int16: (0x0B, ">i2"),
    torch.int32: (0x0C, ">i4"),
    torch.float64: (0x0E, ">f8"),
}


def write_idx(file: Path, values: torch.Tensor) -> None:
    """Write a tensor as an IDX file: in its own type if the format has it, int64 as bytes."""
    kind, stored = TYPES.get(values.dtype, (0x0D, ">f4") if values.is_floating_point() else (0x08, ">u1"))
    header = bytes((0, 0, kind, values.dim())) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header + values.numpy().astype(stored).tobytes())


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
