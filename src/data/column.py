"""Samples as their files store them: turned into a tensor where they are taken, so that memory holds those alone."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

AT_ONCE = 1 << 16  # samples that are turned into a tensor at once where all are wanted


def _as_stored(rows: Tensor) -> Tensor:
    return rows


class Column:
    """Mapped pieces (n_i, ...) of one array after another, read as a tensor (n, *shape) where they are asked for.

    `decode` makes the values of stored rows; it keeps their number and order. It is indexed as a tensor is, and what
    comes out is a tensor in memory, a copy.
    """

    def __init__(self, pieces: Sequence[Tensor], decode: Callable[[Tensor], Tensor] = _as_stored) -> None:
        self.pieces, self._decode = list(pieces), decode
        ends = torch.tensor([len(piece) for piece in pieces]).cumsum(0)
        self._ends, self._begins = ends, ends - torch.tensor([len(piece) for piece in pieces])
        none = decode(pieces[0][:0])
        self.shape, self.dtype = torch.Size((int(ends[-1]), *none.shape[1:])), none.dtype

    @property
    def device(self) -> torch.device:
        """Where the pieces are."""
        return self.pieces[0].device

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> Tensor:
        if isinstance(index, int):
            return self.index_select(0, torch.tensor([range(len(self))[index]]))[0]
        if isinstance(index, slice):
            return self._range(*index.indices(len(self)))
        return self.index_select(0, torch.as_tensor(index))

    def dim(self) -> int:
        """The number of dimensions, that of the samples included."""
        return len(self.shape)

    def is_floating_point(self) -> bool:
        """Whether the values are of a floating type."""
        return self.dtype.is_floating_point

    def index_select(self, _: int, indices: Tensor) -> Tensor:
        """The samples of these indices (n,) int64; all that this takes is memory for them."""
        return self._decode(self._stored(indices))

    def to(self, device: torch.device) -> Tensor:
        """All values on a device."""
        whole = torch.empty(self.shape, dtype=self.dtype, device=device)
        for start in range(0, len(self), AT_ONCE):
            whole[start : start + AT_ONCE] = self[start : start + AT_ONCE].to(device)
        return whole

    def then(self, change: Callable[[Tensor], Tensor]) -> "Column":
        """The same rows with a change of their values."""
        decode = self._decode
        return Column(self.pieces, lambda rows: change(decode(rows)))

    def _stored(self, indices: Tensor) -> Tensor:
        # index_select: indexing with a tensor copies the same bytes in 7 times the time.
        if len(self.pieces) == 1:
            return self.pieces[0].index_select(0, indices)
        owners = torch.bucketize(indices, self._ends, right=True)
        rows = torch.empty((len(indices), *self.pieces[0].shape[1:]), dtype=self.pieces[0].dtype)
        for owner in set(owners.tolist()):
            chosen = (owners == owner).nonzero().flatten()
            rows[chosen] = self.pieces[owner].index_select(0, indices[chosen] - self._begins[owner])
        return rows

    def _range(self, start: int, stop: int, step: int) -> Tensor:
        if len(self.pieces) == 1 and step == 1:
            return self._decode(self.pieces[0][start:stop])
        return self._decode(self._stored(torch.arange(start, stop, step)))


Rows = Tensor | Column  # what a split holds: tensors, and what behaves as one where samples are taken
