"""Where the time of each rank goes, from numbers that travel beside the gradients; and which rank is slow."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
Row = Sequence[float]

SECONDS = "seconds"  # the key in metrics.jsonl
KINDS = ("compute", "wait", "data", "save")
MOST = 16  # ranks that a line lists
SLOW = 1.5  # times the median
STALL_SECONDS = 2.0  # a disk or a neighbour may hold a rank up for so long
STALL_LINES = 3  # and a stall is in two lines at most


class Clock:
    """Seconds of this rank: computing, waiting for the others, for data, and for a save.

    `trained` are the seconds of its steps so far, `waited` those of them in which it waited for others. What is neither
    that nor data is the computing: forward and backward pass, sums and update. An evaluation is none of them.
    """

    def __init__(self, trained: Callable[[], float], waited: Callable[[], float]) -> None:
        self._trained, self._waited = trained, waited
        self._data, self._save = 0.0, 0.0
        self._taken = [0.0] * len(KINDS)

    def loading(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches; the time until each comes is that of the data."""
        began = time.perf_counter()
        for batch in batches:
            self._data += time.perf_counter() - began
            yield batch
            began = time.perf_counter()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around a save."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._save += time.perf_counter() - began

    def take(self) -> list[float]:
        """The seconds of each of KINDS since this was last asked."""
        waited = self._waited()
        now = [self._trained() - waited - self._data, waited, self._data, self._save]
        taken, self._taken = self._taken, now
        return [max(0.0, one - before) for one, before in zip(now, taken, strict=True)]


def line(rows: Sequence[Row]) -> dict[str, object]:
    """What metrics.jsonl says of the ranks' seconds: a list for each of KINDS, or for many ranks its ends."""
    return {kind: _short([round(row[at], 4) for row in rows]) for at, kind in enumerate(KINDS)}


def scalars(seconds: dict[str, Any]) -> dict[str, float]:
    """Of what `line` made: each kind's median and largest, as "seconds/compute_median" and "seconds/compute_max"."""
    found: dict[str, float] = {}
    for kind, ranks in seconds.items():
        ends = ranks if isinstance(ranks, dict) else {"median": statistics.median_low(ranks), "max": max(ranks)}
        found |= {f"{SECONDS}/{kind}_{name}": ends[name] for name in ("median", "max")}
    return found


def totals(lines: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """For people, of all that `line` made: (who, the seconds of each of KINDS), for each rank, or of many the ends."""
    sums: dict[str, list[float]] = {}
    for seconds in lines:
        for at, kind in enumerate(KINDS):
            ranks = seconds[kind]
            if isinstance(ranks, dict):
                named = {"median": ranks["median"], "largest": ranks["max"]}
            else:
                named = {str(rank): value for rank, value in enumerate(ranks)}
            for who, value in named.items():
                sums.setdefault(who, [0.0] * len(KINDS))[at] += value
    return [[who, *(round(value, 2) for value in row)] for who, row in sums.items()]


def _short(seconds: list[float]) -> object:
    if len(seconds) <= MOST:
        return seconds
    most = max(seconds)
    return {"min": min(seconds), "median": statistics.median_low(seconds), "max": most, "rank": seconds.index(most)}


class Slow:
    """Who computes longer than the others, for longer than a stall. `shares` is how much of a batch each rank has."""

    def __init__(self, shares: Sequence[int]) -> None:
        self._shares = shares
        # (lines, seconds) of each rank, without a line between in which it kept up
        self._behind = [(0, 0.0)] * len(shares)
        self._said: set[tuple[int, int]] = set()

    def new(self, compute: Sequence[float], epoch: int) -> dict[int, float]:
        """Ranks to be named now, each once an epoch: how many times the median they take. For each line."""
        each = [seconds / share for seconds, share in zip(compute, self._shares, strict=True)]
        median = statistics.median_low(each)
        found = {}
        for rank, seconds in enumerate(each):
            if seconds <= SLOW * median:
                self._behind[rank] = 0, 0.0
                continue
            lines, behind = self._behind[rank]
            lines, behind = self._behind[rank] = lines + 1, behind + compute[rank]
            if lines >= STALL_LINES and behind >= STALL_SECONDS and (epoch, rank) not in self._said:
                self._said.add((epoch, rank))
                found[rank] = seconds / median if median else 0.0
        return found
