"""What `build` of a model's file returned, held against what a job can train, save and load."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from src.errors import UserError
from src.models.kinds import kind_of

WRAPPERS = ("torch.nn.parallel.", "torch.distributed.")
QUANTIZED = "torch.ao.nn.quantized."


def mistake(built: object) -> tuple[str, str] | None:
    """(what is wrong with it, what is expected); None where the job can train it."""
    if not isinstance(built, nn.Module):
        return f"returned {kind_of(built)}", "an nn.Module"
    if isinstance(built, torch.jit.ScriptModule):
        return "returned a ScriptModule", "the module that it was made of; train.compile=true compiles that"
    if wrapper := _first(built, WRAPPERS):
        return f"returned a module in {wrapper}", "the module alone: the job itself deals the batch to the ranks"
    if layer := _first(built, (QUANTIZED,)):
        return f"returned a module with a quantized {layer}", "floats: quantize what was trained"
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


@contextmanager
def of_one_size(module: nn.Module) -> Iterator[None]:
    """Around a forward pass: raises UserError where a checkpoint from after it fits no module that is built anew."""
    before = _shapes(module)
    yield
    for name, shape in _shapes(module).items():
        if name not in before:
            problem = f"adds {name} to the module, which no optimizer moves and no checkpoint brings back"
        elif before[name] not in (None, shape):
            problem = f"makes {name} {before[name]} into {shape}, which no checkpoint brings back"
        else:
            continue
        raise UserError(
            f"model: the forward pass {problem}",
            fix="create it in build in its full size (nn.LazyLinear and its kind may stay), or keep a plain attribute",
        )


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...] | None]:
    """Of the tensors that a checkpoint holds, by name; None of one that a lazy module has yet to make."""
    tensors = module.state_dict(keep_vars=True).items()
    return {name: None if is_lazy(one) else tuple(one.shape) for name, one in tensors if isinstance(one, Tensor)}


def _first(module: nn.Module, origins: tuple[str, ...]) -> str:
    """The name of the first class from one of these rooms of torch, '' if there is none."""
    kinds = (type(part) for part in module.modules())
    return next((kind.__name__ for kind in kinds if kind.__module__.startswith(origins)), "")


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for named in (module.named_parameters(), module.named_buffers()):
        yield from ((name, tensor) for name, tensor in named if not is_lazy(tensor))


def _overlaps(tensor: Tensor) -> bool:
    """Whether it was made by `expand`: nothing can be written into it."""
    if tensor.layout != torch.strided:
        return False
    return any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
