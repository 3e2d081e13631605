"""A world of one: micro-batches are added, of which some may leave a parameter out."""

import pytest
import torch
from torch import Tensor, nn

from src.data.loader import MicroBatch
from src.gradients.single import SingleProcess
from src.gradients.step import Autograd, Seed
from src.world.world import World
from tests.helpers.gradient_steps import CPU, STEPS, steps, tutorial


def test_a_world_of_one_needs_no_wrapper() -> None:
    found, losses, name = steps(tutorial)(World())
    assert name == "none (one rank)"
    assert (len(found), len(losses)) == (STEPS, STEPS)


def loss(module: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    """The second layer is used by micro-batches of two samples alone."""
    first, second = module.children()
    outputs: Tensor = first(inputs) + (second(inputs) if len(inputs) == 2 else 0)
    return (outputs - targets).square().sum(), len(inputs)


def layers() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleList([nn.Linear(3, 1), nn.Linear(3, 1)])


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("sizes", [(3, 2, 2), (2, 3), (3, 1)])
def test_a_parameter_that_micro_batches_leave_out(sizes: tuple[int, ...], given: bool) -> None:
    """`given` gradients, of a model's own or a graph's, are added as autograd adds to .grad."""
    module, expected = layers(), layers()
    way = SingleProcess(module, loss, Seed(0, CPU), Autograd(module, loss, "", zeros=False) if given else None)
    batches = [MicroBatch(torch.randn(size, 3), torch.randn(size, 1)) for size in sizes]
    for step in range(2):
        result = way.forward_backward(batches, step, 0.0)
    assert result.items == sum(sizes)
    for batch in batches:
        (loss(expected, batch.inputs, batch.targets)[0] / sum(sizes)).backward()  # type: ignore[no-untyped-call]
    for mine, theirs in zip(module.parameters(), expected.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        if mine.grad is not None and theirs.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad)
