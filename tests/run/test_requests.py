"""When rank 0 wants to save beside the schedule: the file SAVE, and the clock."""

import os
import time
from pathlib import Path

import pytest

from src.run import requests
from src.run.requests import Requests


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_file_is_asked_for_once_and_removed_when_its_save_is_written(tmp_path: Path, clock: list[float]) -> None:
    file = tmp_path / "SAVE"
    made = Requests(file, 0, rank0=True)
    made.look()
    assert not made.due
    file.touch()
    made.look()
    assert made.due
    taken = made.take()
    made.look()
    assert not made.due, "its save is being written"
    made.done(taken)
    assert not file.exists()


def test_a_file_that_is_written_again_meanwhile_asks_again(tmp_path: Path, clock: list[float]) -> None:
    file = tmp_path / "SAVE"
    file.touch()
    made = Requests(file, 0, rank0=True)
    taken = made.take()
    os.utime(file, ns=(1, 1))
    made.done(taken)
    assert file.exists()
    made.look()
    assert made.due


def test_a_save_that_failed_is_tried_again_later(tmp_path: Path, clock: list[float]) -> None:
    file = tmp_path / "SAVE"
    file.touch()
    made = Requests(file, 0, rank0=True)
    made.take()
    made.look()
    assert not made.due
    clock[0] += requests.RETRY_SECONDS
    made.look()
    assert made.due


def test_the_clock_starts_with_the_training_and_again_with_each_save(tmp_path: Path, clock: list[float]) -> None:
    made = Requests(tmp_path / "SAVE", 2.0, rank0=True)
    clock[0] += 1000
    made.look()
    assert not made.due, "the start does not count"
    for _ in range(2):
        clock[0] += 119
        made.look()
        assert not made.due
        clock[0] += 1
        made.look()
        assert made.due
        made.take()
        assert not made.due


def test_other_ranks_ask_neither_disk_nor_clock(tmp_path: Path, clock: list[float]) -> None:
    (tmp_path / "SAVE").touch()
    made = Requests(tmp_path / "SAVE", 0.1, rank0=False)
    made.look()
    clock[0] += 1000
    made.look()
    assert (made.due, made.take()) == (False, None)
