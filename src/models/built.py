"""What `build` of a model's file returned, held against what a job can train."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from src.models.kinds import kind_of

WRAPPERS = ("torch.nn.parallel.", "torch.distributed.")


def mistake(built: object) -> tuple[str, str] | None:
    """(what is wrong with it, what is expected); None where the job can train it."""
    if not isinstance(built, nn.Module):
        return f"returned {kind_of(built)}", "an nn.Module"
    if wrapper := next(filter(None, map(_wrapper, built.modules())), ""):
        return f"returned a module in {wrapper}", "the module alone: the job itself deals the batch to the ranks"
    if not any(parameter.requires_grad for parameter in built.parameters()):
        return "returned a module without parameters to train", "at least one"
    for name, tensor in _tensors(built):
        if tensor.is_meta:
            return f"returned a module whose {name} is on the meta device", "one that has its first weights"
        if _overlaps(tensor):
            return (
                f"returned a module whose {name} has one number in several places",
                "a copy, such as expand(...).clone()",
            )
    return None


def _wrapper(module: nn.Module) -> str:
    """The name of the class that distributes a module, '' for any other."""
    return type(module).__name__ if type(module).__module__.startswith(WRAPPERS) else ""


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for named in (module.named_parameters(), module.named_buffers()):
        yield from ((name, tensor) for name, tensor in named if not is_lazy(tensor))


def _overlaps(tensor: Tensor) -> bool:
    """Whether it was made by `expand`: nothing can be written into it."""
    if tensor.layout != torch.strided:
        return False
    return any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
