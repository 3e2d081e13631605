"""A column is read as a tensor is, whatever it is stored as, and in how many pieces."""

import pytest
import torch
from torch import Tensor

from src.data import column
from src.data.column import Column

VALUES = torch.arange(60, dtype=torch.uint8).view(20, 3)


def doubled(rows: Tensor) -> Tensor:
    return rows.long() * 2


@pytest.mark.parametrize("sizes", [[20], [7, 13], [1, 1, 18], [5, 5, 5, 5]])
def test_it_is_indexed_as_a_tensor_is(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column, "AT_ONCE", 6)
    made, expected = Column(torch.split(VALUES, sizes), doubled), VALUES.long() * 2
    assert (len(made), made.shape, made.dtype, made.dim()) == (20, expected.shape, torch.int64, 2)
    assert not made.is_floating_point()
    for index in (0, 19, -1, slice(3, 17), slice(None), slice(15, 99), slice(7, 7), slice(0, 20, 3), [4, 19, 4, 0]):
        assert torch.equal(made[index], expected[index]), index
    chosen = torch.tensor([19, 0, 7, 6, 7, 12])
    assert torch.equal(made.index_select(0, chosen), expected[chosen])
    assert torch.equal(made[chosen], expected[chosen])
    assert torch.equal(made.to(torch.device("cpu")), expected)
    assert torch.equal(made.then(Tensor.float)[2], expected[2].float())
    with pytest.raises(IndexError):
        made[20]


def test_no_more_than_what_is_asked_for_is_decoded() -> None:
    decoded: list[int] = []

    def counted(rows: Tensor) -> Tensor:
        decoded.append(len(rows))
        return rows

    made = Column([VALUES], counted)
    made.index_select(0, torch.tensor([3, 4]))
    _ = made[5:10]
    assert decoded == [0, 2, 5], "none at first, for the shape"
