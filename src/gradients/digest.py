"""A digest of tensors, cheap enough to compare the ranks' weights while they train: one pass over the memory."""

import functools
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
    factors, shifts = _constants(len(tensors), sums.device)
    parts: Tensor = ((sums * factors).sum() >> shifts) & (2**PART - 1)
    return parts.double()


@functools.cache
def _constants(length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(odd factors, another one for each tensor; where the parts begin): made once: it takes as long as adding."""
    factors = torch.arange(1, 2 * length, 2, device=device) * FACTOR
    return factors, torch.arange(0, DIGEST * PART, PART, device=device)


def _sum(tensor: Tensor) -> Tensor:
    """The sum of the tensor's 64-bit words, and of the bytes behind them."""
    plain = torch.view_as_real(tensor.detach().resolve_conj()) if tensor.is_complex() else tensor.detach()
    if plain.storage_offset() == 0 and plain.is_contiguous() and plain.numel() * plain.element_size() % WORD == 0:
        return plain.view(-1).view(torch.int64).sum()
    data = plain.contiguous().view(-1).view(torch.uint8)
    if data.storage_offset() % WORD:
        data = data.clone()
    whole = len(data) // WORD * WORD
    words = data[:whole].view(torch.int64).sum()
    return words if whole == len(data) else words + data[whole:].sum()
