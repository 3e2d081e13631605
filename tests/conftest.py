"""Data sets for the tests: a small one made here, and the real MNIST where it can be had."""

import os
from pathlib import Path

import pytest
import torch

from src import config, data, files
from tests.ranks import ROOT

torch.set_num_threads(1)


def write_idx(file: Path, values: torch.Tensor) -> None:
    """Write a tensor of bytes as an IDX file."""
    header = bytes((0, 0, 8, values.dim())) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header + values.to(torch.uint8).contiguous().numpy().tobytes())


def write_data_set(raw: Path, train: int, test: int, seed: int = 0) -> None:
    """Random pictures, each class with a mean of its own: learnable, and made in milliseconds."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randint(0, 256, (10, 28, 28), generator=torch.Generator().manual_seed(1))
    for names, count in ((data.TRAIN, train), (data.TEST, test)):
        labels = torch.randint(0, 10, (count,), generator=generator)
        noise = torch.randint(-60, 60, (count, 28, 28), generator=generator)
        write_idx(raw / names[0], (means[labels] + noise).clamp(0, 255))
        write_idx(raw / names[1], labels)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """data.root of a data set of a prime number of samples (data.name=idx)."""
    root = tmp_path_factory.mktemp("small")
    write_data_set(root / "IDX" / "raw", 1009, 200)
    return str(root)


@pytest.fixture(scope="session")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> str:
    """data.root of the real MNIST: from MNIST_MIRROR, ../shared/mnist or torchvision's mirrors."""
    root = tmp_path_factory.mktemp("mnist")
    settings = config.Data(root=str(root), mirrors=mnist_mirrors(), fallback="none")
    try:
        data.prepare(settings, print)
    except (config.UserError, files.Unreachable) as error:
        pytest.skip(f"no MNIST: {error}")
    return str(root)


def mnist_mirrors() -> list[str]:
    """Where the tests may find the packed files."""
    named = os.environ.get("MNIST_MIRROR")
    return [named] if named else [str(ROOT.parent / "shared" / "mnist")]
