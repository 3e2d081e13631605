"""The thread beside the training: its order, its errors, and that it is there only when it has work."""

import threading
from pathlib import Path

import pytest

from src.run.saving import Saving
from tests.helpers.ranks import fork


def test_work_is_done_in_order_beside_the_caller() -> None:
    saving, done, go = Saving(), list[int](), threading.Event()
    assert saving._thread is None, "a fork would lose it"

    def first() -> None:
        go.wait(60)
        done.append(1)

    saving.add(first)
    saving.add(lambda: done.append(2))
    assert (saving.in_flight, done) == (True, [])
    go.set()
    saving.wait()
    assert (saving.in_flight, done) == (False, [1, 2])


def test_the_first_error_is_raised_once_to_who_waits() -> None:
    saving, done = Saving(), list[int]()

    def fail(text: str) -> None:
        raise ValueError(text)

    saving.add(lambda: fail("first"))
    saving.add(lambda: fail("second"))
    saving.add(lambda: done.append(3))
    saving.settle()
    assert done == [3]
    with pytest.raises(ValueError, match="first"):
        saving.wait()
    saving.wait()


def test_a_forked_process_has_a_thread_of_its_own(tmp_path: Path) -> None:
    saving = Saving()

    def work() -> int:
        done: list[int] = []
        saving.add(lambda: done.append(1))
        saving.wait()
        return done[0]

    assert fork(2, work, tmp_path).values == [1, 1]
