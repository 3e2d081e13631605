"""The training and the test samples as tensors, and what a model must know of them."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from src.data import labels
from src.data.column import Rows
from src.errors import UserError


@dataclass(frozen=True)
class Spec:
    """What a model must know of its data: the shape and type of one input, and of its target.

    `classes` is 0 where the targets are no classes (no single whole number each). `names` says what each class is
    called in the data; it is empty where that is its number.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    classes: int
    target_shape: tuple[int, ...] = ()
    target_dtype: torch.dtype = torch.int64
    names: tuple[str, ...] = ()

    def name(self, label: int) -> str:
        """What a class is called."""
        return self.names[label] if self.names else str(label)


@dataclass(frozen=True)
class Split:
    """Inputs (n, *shape) as they are stored and targets (n, ...), int64 where they are classes, on one device."""

    inputs: Rows
    targets: Rows

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def device(self) -> torch.device:
        """Where its samples are: the CPU's where they are mapped."""
        return self.inputs.device

    @property
    def sample_bytes(self) -> int:
        """The size of an input."""
        return max(1, math.prod(self.inputs.shape[1:]) * self.inputs.dtype.itemsize)

    def fits(self, device: torch.device) -> bool:
        """Whether it may be resident on a device: in half of a GPU's free memory. A CPU maps any size."""
        if device.type != "cuda":
            return True
        return len(self) * self.sample_bytes < torch.cuda.mem_get_info(device)[0] // 2

    def to(self, device: torch.device) -> "Split":
        """The same split on a device: resident on a GPU, mapped on a CPU."""
        if device.type == "cpu":
            return self
        return Split(self.inputs.to(device), self.targets.to(device))

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The samples of these indices (n,) int64, copied."""
        rows = self.rows(indices)
        # index_select: indexing with a tensor copies the same bytes in 7 times the time.
        return self.inputs.index_select(0, rows), self.targets.index_select(0, rows)

    def rows(self, indices: Tensor) -> Tensor:
        """Where these samples are in `inputs` and `targets`, (n,) int64."""
        return indices

    def first(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The first samples, on a device, to try a model on."""
        inputs, targets = self.range(0, count)
        return inputs.to(device), targets.to(device)

    def few(self, count: int, device: torch.device) -> "Split":
        """The first samples as a split of their own, on a device."""
        return Split(*self.first(count, device))

    def range(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The samples start <= i < stop, of those that there are."""
        return self.inputs[start:stop], self.targets[start:stop]


def spec_of(train: Split, classes: int = 0, names: tuple[str, ...] = ()) -> Spec:
    """What a model must know of its data."""
    inputs, targets = train.inputs, train.targets
    return Spec(tuple(inputs.shape[1:]), inputs.dtype, classes, tuple(targets.shape[1:]), targets.dtype, names)


def check_test(raw: Path, test: Split, spec: Spec, file: str) -> None:
    """Raise UserError where the test samples are of another kind than those trained on; `file` is their labels'."""
    kinds = [
        ("inputs", (spec.shape, spec.dtype), test.inputs),
        ("targets", (spec.target_shape, spec.target_dtype), test.targets),
    ]
    for what, trained, tensor in kinds:
        given = (tuple(tensor.shape[1:]), tensor.dtype)
        if given != (tuple(trained[0]), trained[1]):
            one, other = (f"{tuple(shape)} {str(dtype).removeprefix('torch.')}" for shape, dtype in (trained, given))
            raise UserError(f"{raw}: the training {what} are {one}, those of the test set {other}")
    if spec.classes:
        found = labels.distinct(test.targets)
        outside = found[(found < 0) | (found >= spec.classes)].tolist()
        if outside:
            raise UserError(
                f"{raw / file}: holds the label {outside[-1]}",
                fix=f"the training labels are 0..{spec.classes - 1}: a model learns those alone",
            )
