"""DistributedDataParallel without torch's compiler, whose import takes a second of CPU time on every rank.

The wrapper's constructor reads one setting of torch._dynamo, and its forward pass is marked as one that the compiler
must not enter. Where nothing has imported the compiler, nothing is compiled: the setting has its default, and the mark
has no meaning. A torch that asks for more than that gets its compiler.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch

DYNAMO = "torch._dynamo"
MARK = "__dynamo_disable"  # where torch._disable_dynamo keeps the function that it has marked


class _Absent(SimpleNamespace):
    """A module that is not imported yet: it is as soon as something unknown is asked of it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.of), name)


@contextmanager
def absent() -> Iterator[None]:
    """Around the constructor of DistributedDataParallel: leave the compiler alone if nothing has imported it."""
    if DYNAMO in sys.modules:
        yield
        return
    utils = _Absent(of=f"{DYNAMO}.utils", get_optimize_ddp_mode=lambda: "ddp_optimizer")
    stand_in: Any = _Absent(of=DYNAMO, utils=utils)
    torch._dynamo = stand_in
    try:
        yield
    finally:
        if torch.__dict__.get("_dynamo") is stand_in:  # else it was imported meanwhile
            del torch._dynamo
        if DYNAMO in sys.modules:
            torch._dynamo = sys.modules[DYNAMO]


def unmark(function: Any) -> None:
    """Let a function of torch that `torch._disable_dynamo` wraps be called without the compiler."""
    if DYNAMO in sys.modules:
        return
    while (inner := getattr(function, "__wrapped__", None)) is not None:
        function = inner
    if not hasattr(function, MARK):
        setattr(function, MARK, function)
