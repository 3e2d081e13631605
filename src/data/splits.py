"""The training and the test samples as tensors, and what a model must know of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from src.errors import UserError


@dataclass(frozen=True)
class Spec:
    """What a model must know of its data: the shape and type of one input, and of its target.

    `classes` is 0 where the targets are no classes (no single whole number each).
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    classes: int
    target_shape: tuple[int, ...] = ()
    target_dtype: torch.dtype = torch.int64


@dataclass(frozen=True)
class Split:
    """Inputs (n, *shape) as they are stored and targets (n, ...), int64 where they are classes, on one device."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> "Split":
        """The same split on a device; on a GPU it is resident there."""
        return Split(self.inputs.to(device), self.targets.to(device))


class Splits(NamedTuple):
    """A data set's samples, and what a model must know of them."""

    train: Split
    test: Split
    spec: Spec


def spec_of(raw: Path, train: Split, test: Split, test_labels: str) -> Spec:
    """What a model must know. Raises UserError where the splits are of different kinds."""
    for what, one, other in (("inputs", train.inputs, test.inputs), ("targets", train.targets, test.targets)):
        if one.shape[1:] != other.shape[1:] or one.dtype != other.dtype:
            kinds = [f"{tuple(tensor.shape[1:])} {str(tensor.dtype).removeprefix('torch.')}" for tensor in (one, other)]
            raise UserError(f"{raw}: the training {what} are {kinds[0]}, those of the test set {kinds[1]}")
    targets, classes = train.targets, 0
    if targets.dim() == 1 and not targets.is_floating_point():
        lowest, classes = min(int(targets.min()), int(test.targets.min())), int(targets.max()) + 1
        if lowest < 0:
            raise UserError(f"{raw}: a label is {lowest}", fix="labels are 0 or more")
        if int(test.targets.max()) >= classes:
            raise UserError(
                f"{raw / test_labels}: holds the label {int(test.targets.max())}",
                fix=f"the training labels are 0..{classes - 1}: a model learns those alone",
            )
    return Spec(tuple(train.inputs.shape[1:]), train.inputs.dtype, classes, tuple(targets.shape[1:]), targets.dtype)
