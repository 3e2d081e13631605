"""One thread that computes what is needed next; it holds no state, so nothing of it is in a checkpoint."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def each(keys: Iterable[Key], compute: Callable[[Key], Value], ahead: bool) -> Iterator[tuple[Key, Value]]:
    """(key, what is computed of it) in their order; with `ahead` a thread computes the next while one is used.

    What `compute` raises comes out here, at its key. The thread ends with the iterator, whatever ends that.
    """
    if not ahead:
        yield from ((key, compute(key)) for key in keys)
        return
    with ThreadPoolExecutor(1, "prefetch") as thread:
        waiting = None
        for key in keys:
            coming = key, thread.submit(compute, key)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = coming
        if waiting is not None:
            yield waiting[0], waiting[1].result()
