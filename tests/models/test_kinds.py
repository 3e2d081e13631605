"""Values in a few words."""

import pytest
import torch

from src.models.kinds import kind_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.zeros(2, 3), "a tensor (2, 3) of float32"),
        ((1, 2), "a tuple of 2"),
        (None, "None"),
        (1.5, "a float"),
    ],
)
def test_a_value_in_a_few_words(value: object, text: str) -> None:
    assert kind_of(value) == text
