"""Random numbers of a sample: uniform, independent of each other, and of neither rank nor order."""

import torch

from src.data.order import DRAWS, draws


def test_draws_are_uniform_and_unrelated() -> None:
    numbers = draws(0, 0, torch.arange(20_000))
    assert numbers.shape == (20_000, DRAWS)
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert (numbers.mean(0) - 0.5).abs().max() < 0.01
    assert (numbers.var(0) - 1 / 12).abs().max() < 0.003
    related = torch.corrcoef(
        torch.cat([numbers.T, draws(0, 1, torch.arange(20_000)).T, draws(1, 0, torch.arange(20_000)).T])
    )
    assert (related - torch.eye(len(related))).abs().max() < 0.035


def test_draws_depend_on_the_sample_alone() -> None:
    order = torch.randperm(1000)
    assert torch.equal(draws(5, 2, order), draws(5, 2, torch.arange(1000))[order])
    assert not torch.equal(draws(5, 2, order), draws(5, 3, order))
    assert not torch.equal(draws(5, 2, order), draws(6, 2, order))
