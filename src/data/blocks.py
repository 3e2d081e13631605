"""data.shuffle=blocks: an order whose reads are nearly sequential, for files that random reads cannot keep up with."""

import torch
from torch import Tensor

from src.data.order import CPU, Permutation, permuted, stream

BLOCK_BYTES = 1 << 20  # consecutive samples of so many bytes stay near each other: a disk reads them at one go
WINDOW = 64  # blocks whose samples are mixed: what is read at the same time, 64 MB


def samples_of(sample_bytes: int) -> int:
    """How many samples a block has."""
    return max(1, BLOCK_BYTES // max(1, sample_bytes))


class BlockOrder:
    """Blocks of consecutive samples in any order, then their samples in any order within a window of blocks.

    Nothing is held but the order of the blocks. In each epoch the blocks begin elsewhere, so that neighbours do not
    stay together and the short rest that fills no block is another.
    """

    def __init__(
        self, samples: int, block: int, seed: int, epoch: int, device: torch.device = CPU, *, window: int = WINDOW
    ) -> None:
        self._samples, self._block, self._window = samples, block, block * window
        self._blocks = samples // block
        self._order = Permutation(max(1, self._blocks), seed, epoch, device)
        self._stream = stream(seed, epoch).to(device)
        self._begin = int(self._stream) % samples
        self._last = max(0, -(-self._blocks // window) - 1)  # window: it holds the rest too

    def at(self, positions: Tensor) -> Tensor:
        """The samples at these positions (n,) int64 of the epoch, (n,) int64."""
        windows = (positions // self._window).clamp(max=self._last)
        starts = windows * self._window
        places, is_last = positions - starts, windows == self._last
        for chosen, size in ((~is_last, self._window), (is_last, self._samples - self._last * self._window)):
            if len(found := chosen.nonzero().flatten()):
                places[found] = permuted(places[found], size, self._stream + 1 + windows[found])
        return (self._in_blocks(places + starts) + self._begin) % self._samples

    def _in_blocks(self, places: Tensor) -> Tensor:
        """The samples at these places of the order of blocks; the rest is behind it, as it is."""
        blocks = places // self._block
        moved = self._order.at(blocks.clamp(max=max(0, self._blocks - 1))) * self._block + places % self._block
        return torch.where(blocks < self._blocks, moved, places)
