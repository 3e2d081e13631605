"""What a model knows of its data, and splits that do not fit each other."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from src.data.splits import Spec, Split, check_test, hold_out, spec_of
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


@pytest.mark.parametrize(("share", "count"), [(0.1, 10), (0.004, 0), (7, 7), (1, 1), (102, 102), (0.5, 52)])
def test_what_is_held_out_is_the_rest_of_what_is_trained_on(share: float, count: int) -> None:
    whole = split(torch.arange(103)[:, None].byte(), torch.arange(103))
    if not count:
        with pytest.raises(UserError, match=r"data\.validation=0\.004: would hold out 0 of the 103 training samples; "):
            hold_out(whole, share, 0)
        return
    rest, held = hold_out(whole, share, 3)
    parts = [part.range(0, 103)[1] for part in (rest, held)]
    assert (len(rest), len(held)) == (103 - count, count) == (len(parts[0]), len(parts[1]))
    assert torch.cat(parts).sort().values.equal(whole.targets), "each sample is in one of them"
    assert parts[0].equal(parts[0].sort().values), "in the order of the files"
    some = torch.tensor([0, len(rest) - 1, 0])
    assert rest.take(some)[1].equal(parts[0][some])
    assert rest.first(1, torch.device("cpu"))[1].equal(parts[0][:1])
    for part, targets in zip((rest, held), parts, strict=True):
        assert part.range(2, 5)[1].equal(targets[2:5])
        assert part.take(torch.arange(len(part)))[0].flatten().long().equal(targets), "inputs and targets fit"
        assert len(part.to(torch.device("meta"))) == len(part)


def test_the_seed_alone_draws_what_is_held_out() -> None:
    whole = split(torch.zeros(1000, 1), torch.arange(1000))
    first, same, other = (hold_out(whole, 100, seed)[1].range(0, 100)[1] for seed in (0, 0, 1))
    assert first.equal(same)
    assert len({*first.tolist()} & {*other.tolist()}) < 30
    assert not first.equal(torch.arange(100))


@pytest.mark.parametrize(("share", "reason"), [(103, "would hold out 103 of the 103"), (1.5, "or a whole number")])
def test_a_share_that_cannot_be_held_out(share: float, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        hold_out(split(torch.zeros(103, 1), torch.arange(103)), share, 0)
