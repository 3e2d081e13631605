"""What is computed ahead comes in order, one at a time, and so do exceptions; the thread ends with the iterator."""

import threading
from collections.abc import Callable

import pytest

from src.data.prefetch import each


def prefetching() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_all_come_in_order(ahead: bool, count: int) -> None:
    assert list(each(range(count), lambda key: key * 2, ahead)) == [(key, key * 2) for key in range(count)]
    assert prefetching() == []


def test_one_is_computed_ahead_by_a_thread() -> None:
    computed: list[int] = []
    reached = {key: threading.Event() for key in range(5)}

    def compute(key: int) -> str:
        computed.append(key)
        reached[key].set()
        return threading.current_thread().name

    for key, name in each(range(5), compute, True):
        assert name.startswith("prefetch")
        assert reached[min(key + 1, 4)].wait(30)
        assert len(computed) <= key + 2
    assert list(each([0], compute, False)) == [(0, threading.current_thread().name)]


def failing(at: int) -> Callable[[int], int]:
    def compute(key: int) -> int:
        if key == at:
            raise OSError("Input/output error")
        return key

    return compute


@pytest.mark.parametrize("ahead", [False, True])
def test_an_exception_comes_out_where_it_is_used(ahead: bool) -> None:
    iterator = each(range(5), failing(3), ahead)
    assert [next(iterator)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="Input/output error"):
        next(iterator)
    assert prefetching() == []


def test_the_thread_ends_where_the_user_stops() -> None:
    for _ in each(range(5), failing(9), True):
        break
    assert prefetching() == []
    iterator = each(range(5), failing(9), True)
    next(iterator)
    with pytest.raises(KeyError):
        iterator.throw(KeyError())  # type: ignore[attr-defined]
    assert prefetching() == []
    iterator = each(range(5), failing(9), True)
    next(iterator)
    del iterator
    assert prefetching() == []
