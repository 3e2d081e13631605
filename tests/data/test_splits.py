"""What a model knows of its data, and splits that do not fit each other."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.data.splits import Spec, Split, spec_of
from src.errors import UserError

RAW = Path("raw")


def split(inputs: Tensor, targets: Tensor) -> Split:
    return Split(inputs, targets)


def test_whole_numbers_of_one_dimension_are_classes() -> None:
    made = split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 6, 2, 2]))
    assert spec_of(RAW, made, made, "y") == Spec((3, 8, 8), torch.uint8, 7)


@pytest.mark.parametrize(
    "targets", [torch.zeros(4, dtype=torch.float32), torch.zeros(4, 12, dtype=torch.uint8), torch.zeros(4, 2)]
)
def test_other_targets_are_no_classes(targets: Tensor) -> None:
    made = split(torch.zeros(4, 12, dtype=torch.uint8), targets)
    assert spec_of(RAW, made, made, "y") == Spec((12,), torch.uint8, 0, tuple(targets.shape[1:]), targets.dtype)


def test_splits_of_different_kinds_are_named() -> None:
    inputs, targets = torch.zeros(4, 12, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    other = split(torch.zeros(4, 12), targets)
    with pytest.raises(UserError, match=r"training inputs are \(12,\) uint8, those of the test set \(12,\) float32"):
        spec_of(RAW, split(inputs, targets), other, "y")
    with pytest.raises(UserError, match=r"the training targets are \(\) int64, those of the test set \(\) float32"):
        spec_of(RAW, split(inputs, targets), split(inputs, targets.float()), "y")


def test_labels_out_of_range_are_named() -> None:
    inputs = torch.zeros(2, 3, dtype=torch.uint8)
    few, more = split(inputs, torch.tensor([0, 4])), split(inputs, torch.tensor([0, 5]))
    with pytest.raises(UserError, match=r"raw/y: holds the label 5; the training labels are 0\.\.4"):
        spec_of(RAW, few, more, "y")
    assert spec_of(RAW, more, few, "y").classes == 6
    with pytest.raises(UserError, match="a label is -1; labels are 0 or more"):
        spec_of(RAW, split(inputs, torch.tensor([-1, 4])), few, "y")
