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


def test_classes_have_a_number_and_perhaps_names() -> None:
    made = split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 1, 1]))
    assert spec_of(made, 2, ("cat", "dog")) == Spec((3, 8, 8), torch.uint8, 2, names=("cat", "dog"))


@pytest.mark.parametrize(
    "targets", [torch.zeros(4, dtype=torch.float32), torch.zeros(4, 12, dtype=torch.uint8), torch.zeros(4, 2)]
)
def test_other_targets_are_no_classes(targets: Tensor) -> None:
    made = split(torch.zeros(4, 12, dtype=torch.uint8), targets)
    assert spec_of(made) == Spec((12,), torch.uint8, 0, tuple(targets.shape[1:]), targets.dtype)


def test_splits_of_different_kinds_are_named() -> None:
    inputs, targets = torch.zeros(4, 12, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    spec = spec_of(split(inputs, targets), 1)
    with pytest.raises(UserError, match=r"training inputs are \(12,\) uint8, those of the test set \(12,\) float32"):
        check_test(RAW, split(torch.zeros(4, 12), targets), spec, "y")
    with pytest.raises(UserError, match=r"the training targets are \(\) int64, those of the test set \(\) float32"):
        check_test(RAW, split(inputs, targets.float()), spec, "y")
    check_test(RAW, split(inputs[:1], targets[:1]), spec, "y")


def test_labels_out_of_range_are_named() -> None:
    inputs = torch.zeros(2, 3, dtype=torch.uint8)
    few, more, less = (split(inputs, torch.tensor(labels)) for labels in ([0, 4], [0, 5], [-1, 4]))
    for wrong, label in ((more, 5), (less, -1)):
        with pytest.raises(UserError, match=rf"raw/y: holds the label {label}; the training labels are 0\.\.4"):
            check_test(RAW, wrong, spec_of(few, 5), "y")
    check_test(RAW, few, spec_of(more, 6), "y")


def test_a_class_has_its_name_or_its_number() -> None:
    assert [Spec((2,), torch.uint8, 2).name(1), Spec((2,), torch.uint8, 2, names=("cat", "dog")).name(1)] == [
        "1",
        "dog",
    ]
