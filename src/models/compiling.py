"""Compiling a model with torch.compile, which needs a compiler on the machine."""

import importlib.util
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import UserError


def compile_in_place(module: nn.Module, loss: Any, inputs: Tensor, targets: Tensor) -> None:
    """Compile the module's forward pass, its state dict unchanged, and try it on a few samples; takes seconds.

    Each shape is compiled for itself: a graph for shapes in general would depend on which came first, and so on
    resumes. Raises UserError where there is no compiler, or where it fails.
    """
    _need_compiler(inputs.device)
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")  # advice that would change float32's bits
    module.compile(dynamic=False)
    try:
        with torch.no_grad():
            loss(module, inputs, targets)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise UserError(
            f"train.compile=true: the compiler fails on this model ({reason[0] if reason else type(error).__name__})",
            fix="use train.compile=false",
        ) from None


def _need_compiler(device: torch.device) -> None:
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise UserError("train.compile=true: triton is not installed", fix="install it, or use train.compile=false")
        return
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    if not any(shutil.which(name) for name in names):
        missing = " or ".join(names)
        raise UserError(f"train.compile=true: no {missing} here", fix="install g++, or use train.compile=false")


@contextmanager
def uncompiled(module: nn.Module) -> Iterator[None]:
    """Inside, the module computes as it was written: an evaluation has other shapes, and is not worth compiling."""
    compiled, module._compiled_call_impl = module._compiled_call_impl, None
    try:
        yield
    finally:
        module._compiled_call_impl = compiled
