"""A model's own `gradients` held against autograd, on a few samples before the first step."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from src.models.kinds import kind_of

# (what is wrong with the result, what is expected); None where nothing is
Mistake = tuple[str, str] | None
SEED = 0
TOLERANCE = 1e-3  # of the largest number in the gradient; sums in another order differ by a thousandth of it


def mistake(
    loss: Callable[..., Any], gradients: Callable[..., Any], module: nn.Module, inputs: Tensor, targets: Tensor
) -> Mistake:
    """What is wrong with the closed form: its result's kind, a name, a number, or what becomes of the buffers.

    Both compute in training mode, from the same random numbers, each on a copy of its own, since either may change it:
    first one, then the other, for there may be no memory for two. `module` is not touched.
    """
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    with torch.random.fork_rng([inputs.device] if inputs.is_cuda else []):
        torch.manual_seed(SEED)
        copied = copy.deepcopy(module).train()
        summed, items = loss(copied, inputs, targets)
        if not summed.requires_grad:
            return "loss returned a sum that no parameter has a part in", "one to be differentiated"
        expected = torch.autograd.grad(summed, _trained(copied), materialize_grads=True)
        summed, buffers = summed.detach(), list(copied.buffers())
        del copied
        torch.manual_seed(SEED)
        copied = copy.deepcopy(module).train()
        with torch.no_grad():
            result = gradients(copied, inputs, targets)
    if not isinstance(result, tuple) or len(result) != 3 or not isinstance(result[2], dict):
        return f"returned {kind_of(result)}", "(sum over the items, number of items, dict of gradients by name)"
    by_name = dict(zip(trained, expected, strict=True))
    return (
        _other_names(result[2], trained)
        or _other_kind(result[2], trained)
        or _other_values({"the loss": result[0], "the number of items": result[1]}, [summed, items])
        or _other_values(result[2], [by_name[name] for name in result[2]])
        or _other_values(dict(copied.named_buffers()), buffers)
    )


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _other_names(found: dict[str, object], trained: dict[str, nn.Parameter]) -> Mistake:
    if missing := [name for name in trained if name not in found]:
        return f"has no gradient of {missing[0]}", "one for each parameter that is trained"
    if more := [name for name in found if name not in trained]:
        return f"has a gradient of {more[0]!r}", f"the names of trained parameters: {', '.join(trained)}"
    return None


def _other_kind(found: dict[str, object], trained: dict[str, nn.Parameter]) -> Mistake:
    for name, value in found.items():
        like = trained[name]
        if not isinstance(value, Tensor) or (value.shape, value.dtype) != (like.shape, like.dtype):
            return f"{name} is {kind_of(value)}", kind_of(like.detach())
    return None


def _other_values(found: dict[str, Any], expected: list[Any]) -> Mistake:
    for (name, value), right in zip(found.items(), expected, strict=True):
        one, other = torch.as_tensor(value), torch.as_tensor(right)
        if not other.numel():
            continue
        exact = torch.finfo(other.dtype).eps if other.is_floating_point() else 0.0
        one, other = one.to(other.device, torch.float64), other.double()
        difference, largest = float((one - other).abs().max()), float(other.abs().max())
        if not difference <= max(TOLERANCE, 16 * exact) * largest + 1e-6:
            return f"{name} is {difference:.3g} off what loss and autograd give ({largest:.3g} at most)", "the same"
    return None
