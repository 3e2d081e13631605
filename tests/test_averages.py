"""Averaged weights: the moving average that they are defined as, kept apart from the weights that are trained."""

import threading

import pytest
import torch
from torch import nn

from src.averages import Average
from src.errors import UserError


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def walk(live: nn.Module, average: Average, sizes: list[int]) -> list[torch.Tensor]:
    """Move the weights a step for each size; returns the first parameter after each."""
    seen = []
    for step, samples in enumerate(sizes):
        with torch.no_grad():
            for parameter in live.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))
            live[1].running_mean += step  # type: ignore[index]
            live[1].num_batches_tracked += 1  # type: ignore[index]
        average.update(samples)
        seen.append(next(live.parameters()).detach().clone())
    return seen


def test_it_is_the_weighted_mean_of_the_steps() -> None:
    live = module()
    average, sizes = Average(live, 100.0), [64, 64, 32, 64]
    seen = walk(live, average, sizes)
    ages = [sum(sizes[step + 1 :]) for step in range(len(sizes))]
    weights = [0.5 ** (age / 100) * (1 - 0.5 ** (size / 100)) for age, size in zip(ages, sizes, strict=True)]
    expected = sum(weight * one for weight, one in zip(weights, seen, strict=True)) / sum(weights)
    assert average.module is not None
    torch.testing.assert_close(next(average.module.parameters()), expected)
    assert average.module[1].num_batches_tracked == 4  # type: ignore[index]
    assert average.samples == sum(sizes)


def test_a_step_as_old_as_the_half_life_weighs_half() -> None:
    live = nn.Linear(1, 1, bias=False)
    average = Average(live, 10.0)
    for value in (1.0, 0.0):
        nn.init.constant_(live.weight, value)
        average.update(10)
    assert average.module is not None
    assert next(average.module.parameters()).item() == pytest.approx(1 / 3)  # weights 1/2 and 1


def test_the_trained_weights_never_see_it() -> None:
    alone, watched = module(), module()
    average = Average(watched, 50.0)
    walk(watched, average, [10, 10])
    walk(alone, Average(alone, 0.0), [10, 10])
    pairs = zip(alone.state_dict().values(), watched.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert average.module is not None
    assert not any(parameter.requires_grad for parameter in average.module.parameters())


def test_nothing_is_kept_without_a_half_life() -> None:
    average = Average(module(), 0.0)
    average.update(64)
    assert average.module is None
    assert average.state_dict() == {}


def test_saved_and_loaded_it_goes_on_to_the_bit() -> None:
    whole, live = module(), module()
    one, half = Average(whole, 30.0), Average(live, 30.0)
    walk(whole, one, [8, 8])
    walk(live, half, [8, 8])
    again = Average(live, 30.0)
    again.load_state_dict(half.state_dict())
    walk(whole, one, [8, 4])
    walk(live, again, [8, 4])
    assert one.module is not None
    assert again.module is not None
    pairs = zip(one.module.state_dict().values(), again.module.state_dict().values(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_shared_weights_stay_shared() -> None:
    live = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    live[1].weight = live[0].weight
    average = Average(live, 10.0)
    average.update(5)
    copied = average.module
    assert isinstance(copied, nn.ModuleList)
    assert copied[0].weight is copied[1].weight


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    live = module()
    live.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"optim.average: the module cannot be copied \(TypeError"):
        Average(live, 10.0)


def test_a_mask_of_infinity_stays_one() -> None:
    live = nn.Linear(2, 2)
    live.register_buffer("mask", torch.triu(torch.full((3, 3), -torch.inf), 1))
    average = Average(live, 10.0)
    for _ in range(3):
        average.update(7)
    assert average.module is not None
    assert torch.equal(average.module.mask, live.mask)  # type: ignore[arg-type]
