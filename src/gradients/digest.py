"""A digest of tensors, cheap enough to compare the ranks' weights while they train: one pass over the memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from src.gradients.notes import DIGEST

WORD = 8  # bytes
PART = 16  # bits of a digest that travel as one number
FACTOR = 0x9E3779B97F4A7C15 - 2**64  # odd: no difference of 64 bits is lost in a product with it


@torch.no_grad()
def digest(tensors: Sequence[Tensor]) -> Tensor:
    """(DIGEST,) float64, whole numbers of PART bits, of the tensors' bytes: one changed bit changes it.

    The words of a tensor are added, the sums mixed by the tensor's place; everything wraps around at 64 bits. It is
    against faults, not against an adversary: two changes in one tensor may cancel each other. On a GPU it is not waited
    for.
    """
    sums = torch.stack([_sum(tensor) for tensor in tensors])
    total = (sums * _factors(len(tensors), sums.device)).sum()
    shifts = torch.arange(0, DIGEST * PART, PART, device=sums.device)
    parts: Tensor = (total >> shifts) & (2**PART - 1)
    return parts.double()


def _factors(length: int, device: torch.device) -> Tensor:
    """Odd numbers, another one for each tensor."""
    return torch.arange(1, 2 * length, 2, device=device) * FACTOR


def _sum(tensor: Tensor) -> Tensor:
    """The sum of the tensor's 64-bit words, and of the bytes behind them."""
    plain = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
    data = plain.contiguous().view(-1).view(torch.uint8)
    if data.storage_offset() % WORD:
        data = data.clone()
    whole = len(data) // WORD * WORD
    words = data[:whole].view(torch.int64).sum()
    return words if whole == len(data) else words + data[whole:].sum()
