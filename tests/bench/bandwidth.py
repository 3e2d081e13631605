"""Memory bandwidth: arrays copied and added by one process, and by two at once."""

import multiprocessing
import time
from collections.abc import Callable

import torch

from tests.bench.page import conditions, counted, table, write

SIZES = (4, 40)  # MB: a gradient of 1 and of 10 million float32
ROUNDS = 60


def main() -> None:
    """Measure and write docs/ranks.md."""
    rows = []
    for size in SIZES:
        for processes in (1, 2):
            with multiprocessing.get_context("fork").Pool(processes) as pool:
                found = pool.map(measured, [size] * processes, chunksize=1)
            rates = [f"{sum(rate[at] for rate in found):.1f}" for at in range(2)]
            rows.append([f"{size} MB in {counted(processes, 'process', 'es')}", *rates])
    text = conditions(f"bytes read and written a second of processor time, the best of {ROUNDS} rounds")
    write("bandwidth", text + table(["arrays of", "copied, GB/s", "added, GB/s"], rows))


def measured(megabytes: int) -> tuple[float, float]:
    """(GB/s that are read and written when an array is copied, ... when one is added to another)."""
    torch.set_num_threads(1)
    one, other = (torch.ones(megabytes * 250_000) for _ in range(2))
    size = one.numel() * one.element_size() / 1e9
    copies, additions = (
        min(seconds(call) for _ in range(ROUNDS)) for call in (lambda: one.copy_(other), lambda: one.add_(other))
    )
    return 2 * size / copies, 3 * size / additions


def seconds(call: Callable[[], object]) -> float:
    """Of processor time, which others' load on the machine disturbs least."""
    began = time.thread_time()
    call()
    return time.thread_time() - began


if __name__ == "__main__":
    main()
