"""Counts over all ranks, and samples per second of training alone."""

import pytest
import torch

from src.run.progress import Progress, Speed


def test_a_step_counts_its_samples_and_its_items() -> None:
    progress = Progress()
    for loss, items, samples in ((6.0, 30.0, 3), (4.0, 20.0, 2)):
        progress.advance(loss, items, samples)
    assert (progress.step, progress.step_in_epoch, progress.samples_seen) == (2, 2, 5)
    assert progress.has_loss
    assert progress.take_loss() == (0.2, 50.0), "the mean over items, not over steps"
    assert not progress.has_loss
    progress.next_epoch()
    assert (progress.epoch, progress.step, progress.step_in_epoch) == (1, 2, 0)


def test_a_loss_on_a_gpu_stays_a_tensor_until_it_is_wanted() -> None:
    progress = Progress()
    progress.advance(torch.tensor(3.0), torch.tensor(2.0), 2)
    progress.advance(torch.tensor(1.0), torch.tensor(2.0), 2)
    assert isinstance(progress.loss_sum, torch.Tensor)
    assert progress.state_dict()["loss_sum"] == 4.0
    assert isinstance(progress.state_dict()["loss_items"], float)
    assert progress.take_loss() == (1.0, 4.0)


def test_a_batch_without_items_has_no_mean_loss() -> None:
    progress = Progress()
    progress.advance(0.0, 0.0, 4)
    loss, items = progress.take_loss()
    assert (str(loss), items) == ("nan", 0.0)


@pytest.mark.parametrize(("higher", "better"), [(True, 5.0), (False, -5.0)])
def test_the_best_is_the_first_of_equals(higher: bool, better: float) -> None:
    progress = Progress(step=10)
    assert progress.is_best(0.0, higher), "also where nothing is right"
    progress.step = 20
    assert not progress.is_best(0.0, higher)
    assert not progress.is_best(-better, higher)
    assert progress.is_best(better, higher)
    assert (progress.best, progress.best_step) == (better, 20)


def test_a_value_that_is_no_number_is_never_the_best() -> None:
    progress = Progress()
    assert not progress.is_best(float("nan"), True)
    assert progress.is_best(1.0, True)


def test_the_state_gives_every_field_back() -> None:
    progress = Progress(epoch=2, step=7, samples_seen=9, loss_sum=1.5, loss_items=3.0, best=4.0, metrics_bytes=99)
    again = Progress()
    again.load_state_dict(progress.state_dict())
    assert again == progress


def test_the_state_of_format_1_is_read() -> None:
    progress = Progress()
    old = {"epoch": 1, "step_in_epoch": 2, "step": 9, "samples_seen": 70, "loss_sum": 1.5, "loss_count": 3}
    progress.load_state_dict(old | {"best_correct": 8, "best_step": 7, "record": 99})
    expected = Progress(epoch=1, step_in_epoch=2, step=9, samples_seen=70, loss_sum=1.5, loss_items=3.0)
    expected.best, expected.best_step, expected.metrics_bytes = 8.0, 7, 99
    assert progress == expected


def test_speed_leaves_out_what_is_not_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stretch counts once: a pause inside the steps, and an evaluation between two epochs."""
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    progress = Progress()
    speed = Speed(progress)
    assert speed.rate() == 0.0
    with speed.timing():
        now[0], progress.samples_seen = 2.0, 100
        with speed.paused():
            assert speed.rate() == 50.0
            now[0] = 10.0  # a checkpoint
        now[0], progress.samples_seen = 11.0, 200
    now[0] = 50.0  # an evaluation
    with speed.timing():
        now[0], progress.samples_seen = 52.0, 500
    assert speed.rate() == 100.0
