"""The embedded digits: the same bytes everywhere, and something to learn."""

from pathlib import Path

import torch

from src import config, data, digits, files
from src.distributed import World


def test_the_bytes_are_those_of_every_machine(tmp_path: Path) -> None:
    digits.write(tmp_path)
    assert {name: files.sha256(tmp_path / name) for name in data.FILES} == digits.SHA256
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(data.FILES)


def test_ten_classes_that_can_be_told_apart_but_not_at_a_glance(tmp_path: Path) -> None:
    chosen = data.load(config.Data(name="digits", root=str(tmp_path)), World(), print)
    assert torch.bincount(chosen.train.labels).min() > 5500
    pixels = chosen.train.images.float()
    means = torch.stack([pixels[chosen.train.labels == digit].mean(0) for digit in range(10)])
    nearest = torch.cdist(chosen.test.images.float(), means).argmin(1)
    assert 0.6 < (nearest == chosen.test.labels).float().mean() < 0.95
