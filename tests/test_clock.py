"""Where the time of each rank goes, and who is named as slow: a rank that is, and none that was held up once."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src import clock
from src.clock import KINDS, MOST, STALL_LINES, STALL_SECONDS, Clock, Slow
from src.run import jsonl, layout
from src.run.progress import Progress, Speed
from src.tracking.wandb_uploader import as_metrics
from tests.helpers.ranks import Job, good_job

SLEEP, EVERY, BATCH = 0.03, 8, 32  # seconds a step; steps between lines; samples a step
MODEL = """
import os, time
from src.models.logistic import *
from src.models import logistic

def loss(module, images, labels):
    if module.training and os.environ["RANK"] == "1":
        time.sleep({seconds})
    return logistic.loss(module, images, labels)
"""


def slowed(small: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *settings: str) -> Job:
    """A job of 64 steps on 3 ranks, of which rank 1 sleeps in each; a stall is shorter here."""
    monkeypatch.setattr(clock, "STALL_SECONDS", 3 * EVERY * SLEEP)
    (folder / "mine.py").write_text(MODEL.format(seconds=SLEEP))
    chosen = ("data.name=idx", f"data.root={small}", f"model.name={folder / 'mine.py'}", "train.epochs=2")
    return good_job(
        3, folder, *chosen, "run.name=r", f"log.every={EVERY}", f"train.global_batch_size={BATCH}", *settings
    )


def seconds(job: Job) -> list[dict[str, list[float]]]:
    """Those of the lines of the training."""
    return [line["seconds"] for line in jsonl.read(job.run / layout.METRICS) if line["kind"] == "train"]


@pytest.mark.parametrize("exchange", ["shared_memory", "backend"])
def test_a_slow_rank_is_named_and_the_others_wait_for_it(
    exchange: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = slowed(small, tmp_path, monkeypatch, f"train.exchange={exchange}")
    said = re.findall(r"^warning: rank (\d) on (\S+) computes (\S+) x the median$", job.output, re.MULTILINE)
    assert [(rank, host) for rank, host, _ in said] == [("1", os.uname().nodename)] * 2, job.output  # once an epoch
    assert all(float(times) > clock.SLOW for _, _, times in said)
    lines = seconds(job)
    assert len(lines) == 2 * 4  # one of each 8 steps
    for line in lines:
        assert list(line) == list(KINDS)
        assert all(len(ranks) == 3 for ranks in line.values())
    for line in lines[1:]:
        assert line["compute"][1] >= EVERY * SLEEP * 0.99
    waited = [sum(line["wait"][rank] for line in lines) for rank in range(3)]
    assert min(waited[0], waited[2]) > waited[1]
    assert all(save > 0 for save in lines[4]["save"])  # that of the first epoch's end


def test_ranks_with_more_shards_are_not_slow() -> None:
    slow = Slow([2, 1, 1])
    assert all(slow.new([2.0, 1.0, 1.0], 0) == {} for _ in range(9))


def test_it_is_said_once_an_epoch() -> None:
    slow, rows = Slow([1] * 4), [1.0, 1.1, 2.0, 0.9]
    said = [slow.new(rows, epoch) for epoch in (0, 0, 0, 0, 0, 1, 1)]
    assert said == [{}, {}, {2: pytest.approx(2.0)}, {}, {}, {2: pytest.approx(2.0)}, {}]


def test_a_stall_is_not_said() -> None:
    slow, usual = Slow([1] * 4), [1.0] * 4
    for _ in range(5):
        for _ in range(STALL_LINES - 1):
            assert slow.new([1.0, 1.0, 60.0, 1.0], 0) == {}
        assert slow.new(usual, 0) == {}
    short = STALL_SECONDS / 10
    found = [slow.new([0.1 * short, 0.1 * short, short, 0.1 * short], 0) for _ in range(9)]
    assert found == [{}] * 9


def test_of_two_ranks_the_slower_one_is_named() -> None:
    slow = Slow([1, 1])
    assert [slow.new([1.0, 1.8], 0) for _ in range(3)][-1] == {1: pytest.approx(1.8)}


def test_a_line_stays_short_for_many_ranks() -> None:
    few = clock.line([[0.12345678, 1, 2, 3], [0.2, 1, 2, 3]])
    assert few == {"compute": [0.1235, 0.2], "wait": [1, 1], "data": [2, 2], "save": [3, 3]}
    rows = [[float(rank), 0.0, 0.0, 0.0] for rank in range(MOST + 1)]
    assert clock.line(rows)["compute"] == {"min": 0.0, "median": 8.0, "max": 16.0, "rank": 16}


def test_the_report_has_the_sums_of_all_lines() -> None:
    two, three = ([[1.0, 0.5, 0.25, 0.0]] * ranks for ranks in (2, 3))  # resumed on one rank more
    found = clock.totals([clock.line(two), clock.line(three), clock.line(three)])
    assert found == [["0", 3.0, 1.5, 0.75, 0.0], ["1", 3.0, 1.5, 0.75, 0.0], ["2", 2.0, 1.0, 0.5, 0.0]]
    many = [[float(rank), 0.0, 0.0, 1.0] for rank in range(MOST + 1)]
    assert clock.totals([clock.line(many)] * 2) == [["median", 16.0, 0, 0, 2.0], ["largest", 32.0, 0, 0, 2.0]]
    assert clock.totals([]) == []


@pytest.mark.parametrize("ranks", [3, MOST + 2])
def test_wandb_gets_the_median_and_the_largest(ranks: int) -> None:
    rows = [[1.0 + rank, 0.5, 0.25, 0.0] for rank in range(ranks)]
    line: dict[str, Any] = {"kind": "train", "epoch": 1, "step": 5, "samples_seen": 9, "loss": 0.5}
    sent = as_metrics(line | {"seconds": clock.line(rows)})
    assert sent["seconds/compute_max"] == float(ranks)
    assert sent["seconds/compute_median"] == 1.0 + (ranks - 1) // 2
    assert sent["seconds/wait_max"] == 0.5
    assert all(isinstance(value, int | float) for value in sent.values())
    assert not any(name.startswith("seconds") for name in as_metrics(line))


def slowly(number: int) -> Iterator[int]:
    for at in range(number):
        time.sleep(0.03)
        yield at


def test_the_kinds_are_apart() -> None:
    speed, waited = Speed(Progress()), [0.0]
    mine = Clock(speed.seconds, lambda: waited[0])
    with speed.timing():
        for _ in mine.loading(slowly(2)):
            time.sleep(0.05)
            waited[0] += 0.01
            with speed.paused(), mine.saving():
                time.sleep(0.02)
        compute, wait, data, save = mine.take()
        assert compute >= 0.08
        assert wait == pytest.approx(0.02)
        assert data >= 0.06
        assert save >= 0.04
        assert mine.take()[1:] == [0.0, 0.0, 0.0]
