"""How the system reads mapped files that are larger than memory: what is asked for, and no more.

By itself it reads as much around a page as the disk is set to, up to megabytes, and throws out for it what is needed.
"""

import ctypes
import mmap

from torch import Tensor

from src import resources
from src.data.blocks import BLOCK_BYTES, WINDOW
from src.data.column import Column, Rows


def larger_than_memory(data_bytes: int) -> bool:
    """Whether so much data cannot stay in the page cache that this process may fill."""
    return data_bytes > resources.memory_bytes()


def read_alone(rows: Rows) -> None:
    """Have a page read by itself where one of its samples is taken."""
    for piece in _pieces(rows):
        _advise(piece.data_ptr(), piece.nbytes, mmap.MADV_RANDOM)


class BlockReader:
    """Has the blocks of samples read, each at one go, before one of its samples is taken."""

    def __init__(self, rows: Rows) -> None:
        pieces = _pieces(rows)
        self._piece = pieces[0] if len(pieces) == 1 else None  # many documents are read as they come
        self._row = self._piece[:1].nbytes if self._piece is not None else 0
        self._read: dict[int, None] = {}  # blocks of the last windows

    def read(self, indices: Tensor) -> None:
        """Ask for the blocks of these samples, unless that was done shortly before."""
        if self._piece is None:
            return
        for block in {*(indices * self._row // BLOCK_BYTES).tolist()} - self._read.keys():
            begin = block * BLOCK_BYTES
            _advise(self._piece.data_ptr() + begin, min(BLOCK_BYTES, self._piece.nbytes - begin), mmap.MADV_WILLNEED)
            self._read[block] = None
        while len(self._read) > 4 * WINDOW:
            del self._read[next(iter(self._read))]


def _pieces(rows: Rows) -> list[Tensor]:
    return rows.pieces if isinstance(rows, Column) else [rows]


def _advise(address: int, size: int, advice: int) -> None:
    begin = address // mmap.PAGESIZE * mmap.PAGESIZE
    # Only advice: where the system does not take it, samples are the same.
    ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(address + size - begin), advice)
