"""Counts over all ranks, and samples per second of training alone."""

import pytest
import torch

from src.run.progress import Progress, Speed


def test_a_step_counts_its_samples() -> None:
    progress = Progress()
    for loss, count in ((6.0, 3), (4.0, 2)):
        progress.advance(loss, count)
    assert (progress.step, progress.step_in_epoch, progress.samples_seen) == (2, 2, 5)
    assert progress.take_loss() == 2.0, "the mean over samples, not over steps"
    assert progress.loss_count == 0
    progress.next_epoch()
    assert (progress.epoch, progress.step, progress.step_in_epoch) == (1, 2, 0)


def test_a_loss_on_a_gpu_stays_a_tensor_until_it_is_wanted() -> None:
    progress = Progress()
    progress.advance(torch.tensor(3.0), 2)
    progress.advance(torch.tensor(1.0), 2)
    assert isinstance(progress.loss_sum, torch.Tensor)
    assert progress.as_dict()["loss_sum"] == 4.0
    assert isinstance(progress.as_dict()["loss_sum"], float)
    assert progress.take_loss() == 1.0


def test_the_best_is_the_first_of_equals() -> None:
    progress = Progress(step=10)
    assert progress.is_best(0), "also where nothing is right"
    progress.step = 20
    assert not progress.is_best(0)
    assert progress.is_best(5)
    assert (progress.best_correct, progress.best_step) == (5, 20)


def test_as_dict_gives_every_field_back() -> None:
    progress = Progress(epoch=2, step=7, samples_seen=9, loss_sum=1.5, loss_count=3, best_correct=4, record=99)
    assert Progress(**progress.as_dict()) == progress


def test_speed_leaves_out_what_is_not_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    speed, progress = Speed(), Progress()
    assert speed.rate() == 0.0
    speed.start(progress)
    now[0], progress.samples_seen = 2.0, 100
    speed.stop(progress)
    now[0] = 50.0  # an evaluation
    speed.start(progress)
    now[0], progress.samples_seen = 52.0, 400
    speed.stop(progress)
    assert speed.rate() == 100.0
