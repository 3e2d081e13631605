"""What a model knows of its data, and splits that do not fit each other."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.data.splits import Spec, Split, check_test, spec_of
from src.errors import UserError

RAW = Path("raw")


def split(inputs: Tensor, targets: Tensor) -> Split:
    return Split(inputs, targets)


def test_whole_numbers_of_one_dimension_are_classes() -> None:
    made = split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 6, 2, 2]))
    assert spec_of(RAW, made) == Spec((3, 8, 8), torch.uint8, 7)


@pytest.mark.parametrize(
    "targets", [torch.zeros(4, dtype=torch.float32), torch.zeros(4, 12, dtype=torch.uint8), torch.zeros(4, 2)]
)
def test_other_targets_are_no_classes(targets: Tensor) -> None:
    made = split(torch.zeros(4, 12, dtype=torch.uint8), targets)
    assert spec_of(RAW, made) == Spec((12,), torch.uint8, 0, tuple(targets.shape[1:]), targets.dtype)


def test_splits_of_different_kinds_are_named() -> None:
    inputs, targets = torch.zeros(4, 12, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    spec = spec_of(RAW, split(inputs, targets))
    with pytest.raises(UserError, match=r"training inputs are \(12,\) uint8, those of the test set \(12,\) float32"):
        check_test(RAW, split(torch.zeros(4, 12), targets), spec, "y")
    with pytest.raises(UserError, match=r"the training targets are \(\) int64, those of the test set \(\) float32"):
        check_test(RAW, split(inputs, targets.float()), spec, "y")
    check_test(RAW, split(inputs[:1], targets[:1]), spec, "y")


def test_labels_out_of_range_are_named() -> None:
    inputs = torch.zeros(2, 3, dtype=torch.uint8)
    few, more, less = (split(inputs, torch.tensor(labels)) for labels in ([0, 4], [0, 5], [-1, 4]))
    with pytest.raises(UserError, match=r"raw/y: holds the label 5; the training labels are 0\.\.4"):
        check_test(RAW, more, spec_of(RAW, few), "y")
    check_test(RAW, few, spec_of(RAW, more), "y")
    for check in (lambda: spec_of(RAW, less), lambda: check_test(RAW, less, spec_of(RAW, few), "y")):
        with pytest.raises(UserError, match="a label is -1; labels are 0 or more"):
            check()


def test_a_class_has_its_name_or_its_number() -> None:
    assert [Spec((2,), torch.uint8, 2).name(1), Spec((2,), torch.uint8, 2, names=("cat", "dog")).name(1)] == [
        "1",
        "dog",
    ]
