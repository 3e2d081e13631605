"""How the system reads mapped files: by what is asked for alone, where they are larger than memory."""

import ctypes
import mmap

from torch import Tensor

from src import environment
from src.data.column import Column, Rows


def larger_than_memory(data_bytes: int) -> bool:
    """Whether so much data cannot stay in the page cache that this process may fill."""
    return data_bytes > environment.memory_bytes()


def read_alone(rows: Rows) -> None:
    """Have a page read by itself where one of its samples is taken, without the 128 KB around it.

    In memory that all of it does not fit into, what was read around it is thrown out before it is asked for.
    """
    for piece in rows.pieces if isinstance(rows, Column) else [rows]:
        _advise(piece)


def _advise(piece: Tensor) -> None:
    begin = piece.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    size = piece.data_ptr() + piece.nbytes - begin
    # Only advice: where the system does not take it, samples are the same.
    ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), mmap.MADV_RANDOM)
