"""The digest of tensors: any one bit changes it, and it says the same of the same bytes."""

import pytest
import torch
from torch import Tensor

from src.gradients.digest import PART, digest
from src.gradients.notes import DIGEST

TENSORS = (
    torch.randn(7),
    torch.randn(3, 4, dtype=torch.float64),
    torch.randn(5).bfloat16(),
    torch.tensor([True, False, True]),
    torch.tensor(3),
    torch.randn(2, dtype=torch.complex64),
    torch.full((2,), float("nan")),
)


def flipped(tensors: tuple[Tensor, ...], at: int, byte: int, bit: int) -> list[Tensor]:
    """Copies, with one bit changed."""
    copies = [one.clone() for one in tensors]
    copies[at].view(-1).view(torch.uint8)[byte] ^= 1 << bit
    return copies


def test_every_bit_counts() -> None:
    usual, seen = digest(TENSORS).tolist(), set()
    for at, tensor in enumerate(TENSORS):
        for byte in range(tensor.numel() * tensor.element_size()):
            for bit in range(8):
                if tensor.dtype != torch.bool or bit == 0:
                    seen.add(tuple(digest(flipped(TENSORS, at, byte, bit)).tolist()))
                    assert tuple(usual) not in seen, (at, byte, bit)


def test_its_numbers_are_exact_in_float32() -> None:
    numbers = digest(TENSORS)
    assert numbers.shape == (DIGEST,)
    assert torch.equal(numbers.float().double(), numbers)
    assert all(0 <= number < 2**PART and number == int(number) for number in numbers.tolist())


def test_where_a_tensor_lies_does_not_matter() -> None:
    flat, other = torch.arange(20.0), torch.arange(20.0).view(4, 5)
    parts = [flat[1:8], flat[8:11], other[:, 1:3]]
    assert torch.equal(digest(parts), digest([part.clone() for part in parts]))


@pytest.mark.parametrize("swapped", [0, 1])
def test_the_order_counts(swapped: int) -> None:
    one, two = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    pair = [two, one] if swapped else [one, two]
    assert torch.equal(digest(pair), digest([one, two])) == (not swapped)
