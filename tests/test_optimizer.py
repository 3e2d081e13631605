"""Updates equal torch's, the schedules, and non-finite losses, which change no weight."""

import copy
import math
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import nn

from src import config
from src.errors import NonFinite
from src.gradients.step import GPU_LOOK_STEPS, StepResult
from src.optimizer import Optimizer, PlainSGD
from src.run.state import copied


def groups_of(module: nn.Module) -> list[dict[str, Any]]:
    return [{"params": list(module.parameters())}]


def made(*settings: str, module: nn.Module | None = None, steps: int = 100) -> Optimizer:
    chosen = config.parse([f"optim.{setting}" for setting in settings])
    return Optimizer(groups_of(module or nn.Linear(7, 3)), chosen.optim, steps)


@pytest.mark.parametrize("weight_decay", [0.0, 0.03])
def test_plain_sgd_is_torchs_to_the_bit(weight_decay: float) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(31, 17), nn.Linear(17, 5))
    theirs = copy.deepcopy(ours)
    plain = PlainSGD(groups_of(ours), 0.05, weight_decay)
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
    PlainSGD(groups_of(module), 0.1, 0.1).step()
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
        made("lr=0.25", module=module).step(7, StepResult(loss, 0.0, 1.0))
    assert torch.equal(module.weight, before)


def test_on_a_gpu_a_non_finite_loss_changes_no_weight_and_is_raised_later() -> None:
    """On a GPU the loss stays a tensor, because reading it would wait for the device."""
    module = nn.Linear(3, 2)
    optimizer = made("momentum=0.9", module=module)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = module.weight.detach().clone()
    optimizer.step(0, StepResult(torch.tensor(1.0), torch.tensor(0.0), torch.tensor(1.0)))
    moved = module.weight.detach().clone()
    assert not torch.equal(moved, before)
    for step in range(1, GPU_LOOK_STEPS):
        optimizer.step(
            step, StepResult(torch.tensor(math.nan if step == 1 else 1.0), torch.tensor(0.0), torch.tensor(1.0))
        )
    assert torch.equal(module.weight, moved)
    with pytest.raises(NonFinite, match=r"the weights before it are safe"):
        optimizer.step(GPU_LOOK_STEPS, StepResult(torch.tensor(1.0), torch.tensor(0.0), torch.tensor(1.0)))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_finite_loss_with_a_non_finite_gradient_changes_no_weight(value: float) -> None:
    module = nn.Linear(3, 2)
    before = module.weight.detach().clone()
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    assert module.weight.grad is not None
    module.weight.grad[1, 2] = value
    with pytest.raises(NonFinite, match=r"the gradient is not finite at step 8"):
        made("lr=0.25", module=module).step(7, StepResult(0.5, 0.0, 1.0))
    assert torch.equal(module.weight, before)


def test_gradients_whose_sum_overflows_are_finite() -> None:
    module = nn.Linear(3, 2)
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 3e38)
    made("lr=1e-30", module=module).step(7, StepResult(0.5, 0.0, 1.0))


def test_a_group_s_lr_is_a_factor_on_the_schedule_and_its_decay_its_own() -> None:
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.weight.fill_(1.0)
        module.bias.fill_(1.0)
    groups = [{"params": [module.weight], "lr": 0.1}, {"params": [module.bias], "weight_decay": 0.0}]
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer = Optimizer(groups, config.parse(["optim.lr=0.5", "optim.weight_decay=1"]).optim, 100)
    optimizer.step(0, StepResult(0.5, 0.0, 1.0))
    assert module.weight.tolist() == [[pytest.approx(0.9)] * 3] * 2  # 1 - 0.5 * 0.1 * (1 + 1)
    assert module.bias.tolist() == [0.5, 0.5]


def test_warm_up_stable_decay() -> None:
    wsd = made("lr=0.5", "schedule=wsd", "decay_share=0.25", "warmup_steps=10")
    assert [wsd.lr(step) for step in (4, 10, 74, 75)] == pytest.approx([0.25, 0.5, 0.5, 0.5])
    assert wsd.lr(76) == pytest.approx(0.5 * 24 / 25)
    assert wsd.lr(99) == pytest.approx(0.5 / 25)


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        (("momentum=0.9", "nesterov=true"), lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True)),
        (("name=adamw", "betas=[0.8,0.95]"), lambda p: torch.optim.AdamW(p, 0.05, (0.8, 0.95), weight_decay=0)),
    ],
)
def test_the_settings_reach_torchs_optimizer(settings: tuple[str, ...], theirs: Any) -> None:
    torch.manual_seed(0)
    mine = nn.Linear(7, 3)
    other = copy.deepcopy(mine)
    optimizer, reference = made("lr=0.05", *settings, module=mine), theirs(other.parameters())
    for step in range(4):
        for module in (mine, other):
            module.zero_grad()
            module(torch.ones(2, 7) * step).square().sum().backward()
        optimizer.step(step, StepResult(1.0, 0.0, 1.0))
        reference.step()
    torch.testing.assert_close(mine.weight, other.weight)


@pytest.mark.parametrize("limit", [0.5, 4.0, 1000.0])
def test_clipping_is_torchs_and_the_norm_is_kept(limit: float) -> None:
    torch.manual_seed(0)
    mine = nn.Linear(7, 3)
    other = copy.deepcopy(mine)
    for module in (mine, other):
        module(torch.ones(2, 7)).square().sum().backward()
    norm = nn.utils.clip_grad_norm_(other.parameters(), limit)
    assert 4.0 < norm < 8.0
    optimizer = made(f"clip_norm={limit}", "lr=1", module=mine)
    optimizer.step(0, StepResult(1.0, 0.0, 1.0))
    assert optimizer.grad_norm == pytest.approx(norm.item())
    assert mine.weight.grad is not None
    torch.testing.assert_close(mine.weight.grad, other.weight.grad)


def test_a_gradient_of_a_tiny_norm_is_clipped_as_torch_does() -> None:
    """Which adds 1e-6 to the norm that it divides by."""
    mine, other = (nn.Parameter(torch.zeros(4)) for _ in range(2))
    for parameter in (mine, other):
        parameter.grad = torch.full((4,), 1e-6)
    nn.utils.clip_grad_norm_([other], 1e-6)
    module = nn.ParameterList([mine])
    made("clip_norm=1e-6", module=module).step(0, StepResult(1.0, 0.0, 1.0))
    assert mine.grad is not None
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=0)


class Unrecorded:
    """Graph without a GPU: what is recorded are the gradients that there are in its first call, at their places."""

    def __init__(self, function: Callable[[], None], what: str) -> None:
        self._function, self._seen = function, list[list[int]]()

    def __call__(self) -> None:
        """Compute."""
        self._seen.append([gradient.data_ptr() for gradient in cast(Any, self._function).__self__._gradients()])
        assert self._seen[-1] == self._seen[0]
        self._function()


def recorded(module: nn.Module, monkeypatch: pytest.MonkeyPatch, *settings: str) -> Optimizer:
    monkeypatch.setattr("src.optimizer.Graph", Unrecorded)
    chosen = config.parse([f"optim.{setting}" for setting in settings])
    return Optimizer(groups_of(module), chosen.optim, 100, cuda_graph=True)


def gradients_of(module: nn.Module, step: int, without: str = "") -> None:
    """The same memory in each step, as the gradients of src.gradients are."""
    for name, parameter in module.named_parameters():
        kept = vars(parameter).setdefault("kept", torch.zeros_like(parameter))
        kept.copy_(torch.full_like(parameter, 1.0 + step))
        parameter.grad = None if name == without else kept


def on_gpu(loss: float) -> StepResult:
    return StepResult(torch.tensor(loss), torch.tensor(0.0), torch.tensor(1.0))


@pytest.mark.parametrize("settings", [("momentum=0.9",), ("name=adamw", "weight_decay=0.1")])
def test_a_parameter_that_a_step_leaves_out_is_moved_by_no_recorded_step(
    settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    mine = nn.Linear(7, 3)
    other = copy.deepcopy(mine)
    ways = [(mine, recorded(mine, monkeypatch, *settings)), (other, made(*settings, module=other))]
    for step, without in enumerate(["bias", "", "bias", "weight", "", ""]):
        before = mine.bias.detach().clone()
        for module, optimizer in ways:
            gradients_of(module, step, without)
            optimizer.step(step, on_gpu(1.0))
        assert torch.equal(mine.bias, before) == (without == "bias")
    torch.testing.assert_close(mine.weight, other.weight)
    torch.testing.assert_close(mine.bias, other.bias)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("settings", [("momentum=0.9",), ("name=adamw",)])
def test_a_run_goes_on_with_cuda_graphs_or_without(
    settings: tuple[str, ...], after: bool, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint holds the groups of the job that made it: torch refuses to record a step that is not capturable."""
    torch.manual_seed(0)
    module = nn.Linear(7, 3)
    chosen = (*settings, "lr=0.5", "schedule=linear")
    saved = recorded(module, monkeypatch, *chosen) if before else made(*chosen, module=module)
    gradients_of(module, 0)
    saved.step(0, on_gpu(1.0))
    state = copied(saved.torch.state_dict())
    found = []
    for is_recorded in (after, False):
        resumed = copy.deepcopy(module)
        optimizer = recorded(resumed, monkeypatch, *chosen) if is_recorded else made(*chosen, module=resumed)
        optimizer.load_state_dict(copy.deepcopy(state))
        for step in (50, 51):
            gradients_of(resumed, step)
            optimizer.step(step, on_gpu(1.0))
        (group,) = optimizer.torch.param_groups
        assert group.get("capturable", is_recorded) == is_recorded
        assert isinstance(group["lr"], torch.Tensor) == is_recorded
        assert float(group["lr"]) == pytest.approx(0.5 * 49 / 100)
        found.append(resumed.weight)
    torch.testing.assert_close(*found)


def test_a_run_of_a_cpu_goes_on_on_a_gpu() -> None:
    """Plain SGD of a CPU has no state, not even groups."""
    other = made("momentum=0.9")
    other.load_state_dict(made().torch.state_dict())
    assert len(other.torch.param_groups) == 1


def test_the_first_gradient_of_a_parameter_may_come_later_than_the_others() -> None:
    torch.manual_seed(0)
    mine = nn.Linear(7, 3)
    other = copy.deepcopy(mine)
    optimizer, reference = made("lr=0.1", "momentum=0.9", module=mine), torch.optim.SGD(other.parameters(), 0.1, 0.9)
    for step, without in enumerate(["bias", "", ""]):
        for module in (mine, other):
            gradients_of(module, step, without)
        optimizer.step(step, StepResult(1.0, 0.0, 1.0))
        reference.step()
    torch.testing.assert_close(mine.bias, other.bias)
    torch.testing.assert_close(mine.weight, other.weight)


def test_without_clipping_no_norm_is_computed() -> None:
    module = nn.Linear(7, 3)
    module(torch.ones(2, 7)).sum().backward()
    optimizer = made(module=module)
    optimizer.step(0, StepResult(1.0, 0.0, 1.0))
    assert optimizer.grad_norm is None


def test_a_gradient_of_bfloat16_parameters_is_clipped_too() -> None:
    module = nn.Linear(7, 3).to(torch.bfloat16)
    module(torch.ones(2, 7, dtype=torch.bfloat16)).sum().backward()
    made("clip_norm=0.1", module=module).step(0, StepResult(1.0, 0.0, 1.0))
    assert module.weight.grad is not None
    assert module.weight.grad.float().norm() < 0.11
