"""Updates equal torch's, the schedules, and non-finite losses, which change no weight."""

import copy
import math

import pytest
import torch
from torch import nn

from src import config
from src.errors import NonFinite
from src.gradients.step import GPU_LOOK_STEPS, StepResult
from src.optimizer import Optimizer, PlainSGD


def made(*settings: str, module: nn.Module | None = None, steps: int = 100) -> Optimizer:
    chosen = config.parse([f"optim.{setting}" for setting in settings])
    return Optimizer(module or nn.Linear(7, 3), chosen.optim, steps)


@pytest.mark.parametrize("weight_decay", [0.0, 0.03])
def test_plain_sgd_is_torchs_to_the_bit(weight_decay: float) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(31, 17), nn.Linear(17, 5))
    theirs = copy.deepcopy(ours)
    plain = PlainSGD(ours, 0.05, weight_decay)
    reference = torch.optim.SGD(theirs.parameters(), 0.05, weight_decay=weight_decay, foreach=False)
    for _ in range(20):
        batch = torch.randn(8, 31)
        for module, optimizer in ((ours, plain), (theirs, reference)):
            module.zero_grad()
            module(batch).square().mean().backward()
            optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_a_frozen_parameter_is_unchanged() -> None:
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    before = module.bias.clone()
    module(torch.ones(1, 3)).sum().backward()
    PlainSGD(module, 0.1, 0.1).step()
    assert torch.equal(module.bias, before)


def test_the_optimizer_of_each_name() -> None:
    assert isinstance(made().torch, PlainSGD)
    assert isinstance(made("momentum=0.9").torch, torch.optim.SGD)
    assert isinstance(made("name=adamw").torch, torch.optim.AdamW)


def test_the_schedules() -> None:
    assert {made("lr=0.5").lr(step) for step in (0, 50, 99)} == {0.5}
    cosine = made("lr=0.5", "schedule=cosine", "warmup_steps=10")
    assert [cosine.lr(step) for step in (0, 4, 9, 10)] == pytest.approx([0.05, 0.25, 0.5, 0.5])
    assert cosine.lr(55) == pytest.approx(0.25)
    assert cosine.lr(99) < 0.001
    assert made("lr=0.5", "schedule=linear").lr(75) == pytest.approx(0.125)


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_non_finite_loss_changes_no_weight(loss: float) -> None:
    module = nn.Linear(3, 2)
    before = module.weight.detach().clone()
    module.weight.grad = torch.full_like(module.weight, math.nan)
    with pytest.raises(NonFinite, match=r"step 8 with learning rate 0\.25"):
        made("lr=0.25", module=module).step(7, StepResult(loss, 0.0))
    assert torch.equal(module.weight, before)


def test_on_a_gpu_a_non_finite_loss_changes_no_weight_and_is_raised_later() -> None:
    """On a GPU the loss stays a tensor, because reading it would wait for the device."""
    module = nn.Linear(3, 2)
    optimizer = made("momentum=0.9", module=module)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = module.weight.detach().clone()
    optimizer.step(0, StepResult(torch.tensor(1.0), torch.tensor(0.0)))
    moved = module.weight.detach().clone()
    assert not torch.equal(moved, before)
    for step in range(1, GPU_LOOK_STEPS):
        optimizer.step(step, StepResult(torch.tensor(math.nan if step == 1 else 1.0), torch.tensor(0.0)))
    assert torch.equal(module.weight, moved)
    with pytest.raises(NonFinite, match=r"the weights before it are safe"):
        optimizer.step(GPU_LOOK_STEPS, StepResult(torch.tensor(1.0), torch.tensor(0.0)))
