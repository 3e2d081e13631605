"""The training and the test samples as tensors, and what a model must know of them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from src.errors import UserError

HELD_OUT = 0x76616C6964617465  # another permutation than those of the epochs


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

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: torch.device) -> "Split":
        """The same split on a device; on a GPU it is resident there."""
        return Split(self.inputs.to(device), self.targets.to(device))

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The samples of these indices (n,) int64, copied."""
        # index_select: indexing with a tensor copies the same bytes in 7 times the time.
        return self.inputs.index_select(0, indices), self.targets.index_select(0, indices)

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


@dataclass(frozen=True)
class Chosen(Split):
    """Some samples of a split: those of `indices` (m,) int64."""

    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def to(self, device: torch.device) -> Split:
        """On a GPU, these samples alone."""
        if device == self.inputs.device:
            return self
        inputs, targets = super().take(self.indices)
        return Split(inputs.to(device), targets.to(device))

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """See Split."""
        return super().take(self.indices[indices])

    def range(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See Split."""
        return super().take(self.indices[start:stop])


@dataclass(frozen=True)
class Rest(Split):
    """The samples of a split without some of them: those of `left_out` (m,) int64, ascending.

    It keeps nothing of the size of the split, and the order.
    """

    left_out: Tensor

    def __len__(self) -> int:
        return len(self.targets) - len(self.left_out)

    def to(self, device: torch.device) -> Split:
        """See Split."""
        return Rest(self.inputs.to(device), self.targets.to(device), self.left_out.to(device))

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """See Split."""
        kept_before = self.left_out - torch.arange(len(self.left_out), device=self.left_out.device)
        return super().take(indices + torch.searchsorted(kept_before, indices, right=True))

    def range(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See Split."""
        return self.take(torch.arange(min(start, len(self)), min(stop, len(self)), device=self.targets.device))


def hold_out(split: Split, share: float, seed: int) -> tuple[Rest, Chosen]:
    """(the samples that are trained on, those held out), drawn by the seed alone.

    `share` is below 1, or a number of samples. Raises UserError where either would be empty.
    """
    count = round(share * len(split)) if share < 1 else int(share)
    if share >= 1 and count != share:
        raise UserError(f"data.validation={share:g}: must be below 1, or a whole number of samples")
    if not 0 < count < len(split):
        raise UserError(
            f"data.validation={share:g}: would hold out {count} of the {len(split)} training samples",
            fix=f"give a share such as 0.1, or a number from 1 to {len(split) - 1}",
        )
    drawn = torch.randperm(len(split), generator=torch.Generator().manual_seed((seed + HELD_OUT) % 2**63))[:count]
    held = drawn.sort().values
    return Rest(split.inputs, split.targets, held), Chosen(split.inputs, split.targets, held)


def spec_of(raw: Path, train: Split) -> Spec:
    """What a model must know of its data. Raises UserError for a label below 0."""
    targets, classes = train.targets, 0
    if targets.dim() == 1 and not targets.is_floating_point():
        _refuse_negative(raw, targets)
        classes = int(targets.max()) + 1
    return Spec(tuple(train.inputs.shape[1:]), train.inputs.dtype, classes, tuple(targets.shape[1:]), targets.dtype)


def check_test(raw: Path, test: Split, spec: Spec, labels: str) -> None:
    """Raise UserError where the test samples are of another kind than those trained on; `labels` is their file."""
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
        _refuse_negative(raw, test.targets)
        if int(test.targets.max()) >= spec.classes:
            raise UserError(
                f"{raw / labels}: holds the label {int(test.targets.max())}",
                fix=f"the training labels are 0..{spec.classes - 1}: a model learns those alone",
            )


def _refuse_negative(raw: Path, labels: Tensor) -> None:
    if (lowest := int(labels.min())) < 0:
        raise UserError(f"{raw}: a label is {lowest}", fix="labels are 0 or more")
