"""Some of the training samples held out, to see how good the weights are on what they were not trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from src.data.order import Permutation
from src.data.splits import Split
from src.errors import UserError

HELD_OUT = 2**30  # in the place of an epoch's number: another permutation than those that are trained on


@dataclass(frozen=True)
class Chosen(Split):
    """Some samples of a split: those of `indices` (m,) int64."""

    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def to(self, device: torch.device) -> Split:
        """On a GPU, these samples alone."""
        if device.type == "cpu":
            return self
        inputs, targets = self.take(torch.arange(len(self)))
        return Split(inputs.to(device), targets.to(device))

    def rows(self, indices: Tensor) -> Tensor:
        """See Split."""
        return self.indices[indices]

    def range(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See Split."""
        return self.take(torch.arange(min(start, len(self)), min(stop, len(self)), device=self.device))


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
        if device.type == "cpu":
            return self
        return Rest(self.inputs.to(device), self.targets.to(device), self.left_out.to(device))

    def rows(self, indices: Tensor) -> Tensor:
        """See Split."""
        kept_before = self.left_out - torch.arange(len(self.left_out), device=self.left_out.device)
        return indices + torch.searchsorted(kept_before, indices, right=True)

    def range(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """See Split."""
        return self.take(torch.arange(min(start, len(self)), min(stop, len(self)), device=self.device))


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
    held = Permutation(len(split), seed, HELD_OUT).at(torch.arange(count)).sort().values
    return Rest(split.inputs, split.targets, held), Chosen(split.inputs, split.targets, held)
