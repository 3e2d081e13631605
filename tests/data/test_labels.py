"""Which labels there are, what they are called, and the classes they become."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from src.data import labels
from src.data.column import Column
from src.errors import UserError

FILE = Path("y")


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=50), st.integers(1, 60))
def test_the_distinct_labels_are_sorted(values: list[int], at_once: int) -> None:
    before, labels.AT_ONCE = labels.AT_ONCE, at_once
    try:
        assert labels.distinct(torch.tensor(values, dtype=torch.int32)).tolist() == sorted({*values})
    finally:
        labels.AT_ONCE = before


@pytest.mark.parametrize("many", [False, True])
def test_labels_become_their_place_among_the_known(many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "LISTED", 0 if many else 100)
    stored = torch.tensor([7, 1, 7, 3], dtype=torch.int16)
    for known, expected in (
        (torch.tensor([1, 3, 7]), [2, 0, 2, 1]),
        (torch.tensor([7, 1, 3]), [0, 1, 0, 2]),
        (None, [7, 1, 7, 3]),
    ):
        for given_as in (stored, Column([stored])):
            classes = labels.classes_of(given_as, known)
            assert isinstance(classes, Column) == many, "those of many samples are looked up where they are taken"
            assert (classes[:].tolist(), classes.dtype) == (expected, torch.int64)


def test_quantities_are_no_classes() -> None:
    with pytest.raises(UserError, match=r"^y: 3,000 different whole numbers for 3,000 samples are no classes; write"):
        labels.names_of(FILE, torch.arange(3000))
    assert labels.names_of(FILE, torch.arange(1000)) == (1000, ()), "a small set may have one sample a class"
    assert labels.names_of(FILE, torch.arange(3000).repeat(2)) == (3000, ())


@pytest.mark.parametrize(
    ("known", "line"),
    [
        (range(1, 27), "labels 1..26 are trained as classes 0..25"),
        ((0, 2, 5), "labels 0, 2, 5 are trained as classes 0..2"),
        ((-1, 1), "labels -1, 1 are trained as classes 0..1"),
        ((7,), "labels 7 are trained as classes 0..0"),
        (range(0, 60, 2), "labels 0, 2, 4, ..., 58 are trained as classes 0..29"),
    ],
)
def test_a_mapping_is_said(known: tuple[int, ...], line: str) -> None:
    count, names = labels.names_of(FILE, torch.tensor([*known]))
    assert (count, labels.mapping(names)) == (len(known), line)


def test_classes_with_their_numbers_or_words_as_names_are_not_mapped() -> None:
    assert labels.mapping(labels.names_of(FILE, torch.arange(10))[1]) == ""
    assert labels.mapping(("cat", "dog")) == ""
