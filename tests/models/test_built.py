"""What `build` returns and no job can train is named before anything is tried."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from src.errors import UserError
from src.models import built


def with_buffer(buffer: torch.Tensor) -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_buffer("mean", buffer)
    return module


def inside_another() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.DataParallel(nn.Linear(2, 2)))


def with_expanded_parameter() -> nn.Module:
    module = nn.Linear(2, 2)
    module.scale = nn.Parameter(torch.ones(1).expand(2))
    return module


def quantized() -> nn.Module:
    return nn.Sequential(nn.PReLU(), torch.ao.nn.quantized.dynamic.Linear(2, 2))  # type: ignore[no-untyped-call]


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "nothing": (lambda: None, "returned None"),
    "frozen": (lambda: nn.Linear(2, 2).requires_grad_(False), "without parameters to train"),
    "a script": (lambda: torch.jit.script(nn.Linear(2, 2)), "returned a ScriptModule"),
    "quantized": (quantized, "a quantized Linear"),
    "distributed": (inside_another, "a module in DataParallel"),
    "without numbers": (lambda: nn.Linear(2, 2, device="meta"), "whose weight is on the meta device"),
    "expanded buffer": (lambda: with_buffer(torch.zeros(1).expand(5)), "whose mean has one number in several places"),
    "expanded parameter": (with_expanded_parameter, "whose scale has one number in several places"),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_what_cannot_be_trained_is_named(what: str) -> None:
    make, says = MISTAKES[what]
    found = built.mistake(make())
    assert found is not None
    assert says in found[0]


def test_anything_else_is_taken() -> None:
    tied = nn.Linear(2, 2)
    for module in (
        nn.LazyLinear(3),
        with_buffer(torch.zeros(2, 3).t()),
        with_buffer(torch.zeros(1, 5).expand(1, 5)),
        with_buffer(torch.eye(3).to_sparse()),
        nn.Sequential(tied, tied),
        nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)),
    ):
        assert built.mistake(module) is None, module


class Growing(nn.Module):
    """Its forward pass changes what is saved of it."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.linear = how, nn.LazyLinear(3)
        self.register_buffer("seen", torch.zeros(0))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.how == "a buffer":
            self.seen = torch.zeros(len(inputs))
        if self.how == "a parameter":
            self.late = nn.Parameter(torch.zeros(3))
        if self.how == "a cache":
            self.register_buffer("cache", torch.zeros(len(inputs)), persistent=False)
        result: torch.Tensor = self.linear(inputs)
        return result


@pytest.mark.parametrize(
    ("how", "says"), [("a buffer", r"makes seen \(0,\) into \(2,\)"), ("a parameter", "adds late to")]
)
def test_a_forward_pass_that_changes_what_is_saved_is_refused(how: str, says: str) -> None:
    module = Growing(how)
    with pytest.raises(UserError, match=f"^model: the forward pass {says}"), built.of_one_size(module):
        module(torch.zeros(2, 4))


@pytest.mark.parametrize("how", ["nothing but lazily", "a cache"])
def test_what_no_checkpoint_holds_may_grow(how: str) -> None:
    module = Growing(how)
    with built.of_one_size(module):
        module(torch.zeros(2, 4))
    assert module.linear.weight.shape == (3, 4)
