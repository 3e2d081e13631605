"""CUDA graphs: kernels that are launched together, where launching each one takes longer than it runs."""

import functools
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from src import schema
from src.errors import UserError
from src.gradients.step import Differentiated

T = TypeVar("T")
WARM_UP = 3  # calls before the recording, in which libraries allocate what they need
OFF = "train.cuda_graph=false"
FIX = f"use {OFF}"


class Graph(Generic[T]):
    """A function without arguments that works on the same tensors in every call: from its fourth call on a graph.

    What it returns is overwritten by the next call. Python in it runs no more, once it is recorded: what changes from
    step to step must be in a tensor.
    """

    def __init__(self, function: Callable[[], T], what: str) -> None:
        self._function, self._what, self._calls = function, what, 0
        self._graph: Any = None

    def __call__(self) -> T:
        """Compute. Raises UserError where it cannot be recorded."""
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._function()
        if self._graph is None:
            self._record()
        self._graph.replay()
        return self._result

    def _record(self) -> None:
        """Nothing is computed by it."""
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the GPU
                self._result = self._function()
        except UserError:
            raise
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(f"train.cuda_graph=true: {self._what} cannot be recorded ({lines[0]})", fix=FIX) from None
        self._graph = graph


def refuse_graph(settings: schema.Train, device: torch.device, ranks: int, random_modules: Collection[str]) -> None:
    """Raise UserError where train.cuda_graph asks for what cannot be. See Seed for `random_modules`."""
    if not settings.cuda_graph:
        return
    if device.type != "cuda":
        raise UserError("train.cuda_graph=true: this training is on the CPU", fix=f"use a GPU, or {OFF}")
    if ranks > 1 and settings.sync == "ddp":
        raise UserError(
            f"train.cuda_graph=true: DDP's wrapper on {ranks} ranks is not recorded",
            fix=f"use train.sync=bitwise, or {OFF}",
        )
    if random_modules:
        names = " and ".join(sorted(random_modules))
        raise UserError(
            f"train.cuda_graph=true: the model's file imports {names}, whose numbers a recorded step cannot draw anew",
            fix=f"draw from torch, or {FIX}",
        )


class RecordedGradients:
    """Gradients of a micro-batch, through a graph for each shape in which micro-batches come.

    `function` is what computes them. Raises UserError for what a graph would not do again: a module that changes in a
    step otherwise than in place, numbers drawn on the CPU.
    """

    def __init__(self, function: Differentiated, module: nn.Module) -> None:
        self._function, self._module = function, module
        self.name = ", ".join(filter(None, [getattr(function, "name", ""), "CUDA graph"]))
        self._shapes: dict[Any, tuple[Tensor, Tensor, Graph[Any]]] = {}
        self._used: list[Tensor] = []  # by a graph, which knows addresses: a mask that is made anew for other shapes

    def __call__(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float | Tensor, list[Tensor | None]]:
        """(sum of the losses, number of items, gradients of the sum, which the next call overwrites)."""
        shape = inputs.shape, targets.shape
        if shape not in self._shapes:
            places = torch.zeros_like(inputs), torch.zeros_like(targets)
            function = functools.partial(self._checked, *places)
            self._shapes[shape] = (*places, Graph(function, "the forward and backward pass"))
        one, other, graph = self._shapes[shape]
        one.copy_(inputs)
        other.copy_(targets)
        loss, items, gradients = graph()
        return loss.clone(), items.clone() if isinstance(items, Tensor) else items, gradients

    def _checked(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float | Tensor, list[Tensor | None]]:
        with self._repeatable() if torch.cuda.is_current_stream_capturing() else nullcontext():
            loss, items, gradients = self._function(inputs, targets)
        return loss.detach().double(), items.detach() if isinstance(items, Tensor) else items, gradients

    @contextmanager
    def _repeatable(self) -> Iterator[None]:
        """Around the call that is recorded, before which there were others: they may have prepared something."""
        before, generator = state_of(self._module), torch.get_rng_state()
        yield
        after = state_of(self._module)
        if before != after:
            name = next(name for name in {**before, **after} if before.get(name) != after.get(name))
            raise UserError(
                f"train.cuda_graph=true: a step replaces {name} of the model, which a recorded step cannot",
                fix=f"change a buffer in place, or {FIX}",
            )
        if not torch.equal(torch.get_rng_state(), generator):
            raise UserError(
                "train.cuda_graph=true: the model draws random numbers on the CPU, which a recorded step cannot",
                fix=f"draw them on the GPU (device=inputs.device), or {FIX}",
            )
        self._used += [tensor for _, tensor in _attributes(self._module) if isinstance(tensor, Tensor)]


def state_of(module: nn.Module) -> dict[str, object]:
    """Of every attribute of a module and its parts the value, of a tensor its place in memory; others are left out."""
    found: dict[str, object] = {}
    for name, value in _attributes(module):
        if isinstance(value, Tensor):
            found[name] = value.data_ptr()
        elif isinstance(value, int | float | str):
            found[name] = value
    return found


def _attributes(module: nn.Module) -> Iterator[tuple[str, object]]:
    """Name and value of every attribute, buffer and parameter of a module and its parts."""
    for path, part in module.named_modules():
        for name, value in {**vars(part), **part._buffers, **part._parameters}.items():
            yield f"{path}.{name}".lstrip("."), value
