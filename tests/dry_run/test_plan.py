"""What a job would begin with, read and left as it is."""

from pathlib import Path

import pytest

from tests.helpers.dry_runs import dry, settings
from tests.helpers.ranks import good_job, run_job


def test_a_run_that_goes_on_and_one_that_is_finished(small: str, tmp_path: Path) -> None:
    good_job(2, tmp_path, *settings(small, "train.epochs=2"))
    said = dry(1, tmp_path, *settings(small, "train.epochs=3"))
    assert said["run"].endswith("(goes on at step 32 of 48, 2 ranks before)")
    assert "for 16 steps, and 1 evaluation of 200 samples" in said["time"]
    assert said["saves"].startswith("1 checkpoint of ")
    said = dry(2, tmp_path, *settings(small, "train.epochs=2"))
    assert said["run"].endswith("(is finished)")
    assert said["time"] == "no step is left"
    said = dry(1, tmp_path, *settings(small, "train.epochs=2", "checkpoint.resume=never"))
    assert said["run"].endswith("(new; the earlier run would be renamed)")
    assert "for 32 steps" in said["time"]


def test_a_damaged_checkpoint_stays_where_it_is(small: str, tmp_path: Path) -> None:
    good_job(1, tmp_path, *settings(small, "train.epochs=2"))
    newest = tmp_path / "runs" / "x" / "checkpoints" / "step-00000032.pt"
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    said = dry(1, tmp_path, *settings(small, "train.epochs=3"))
    assert said["run"].endswith("(goes on at step 16 of 48, 1 ranks before)")


def test_other_data_and_other_settings_are_refused_as_by_the_job(small: str, tmp_path: Path) -> None:
    good_job(1, tmp_path, *settings(small, "train.epochs=1"))
    refused = run_job(1, tmp_path, "--dry-run", *settings(small, "train.epochs=1", "optim.lr=0.5"))
    assert refused.codes == [2]
    assert "run.name=x: was started with another model or other settings (optim.lr 0.01 -> 0.5)" in refused.output


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("run.root=/dev/null", "error: run.root=/dev/null: /dev/null/x cannot be written (/dev/null is a file, not a"),
        ("checkpoint.mirror=nowhere://b/p", "error: checkpoint.mirror=nowhere://b/p: Protocol not known: nowhere"),
    ],
)
def test_a_place_where_the_job_could_not_write_is_refused(setting: str, says: str, small: str, tmp_path: Path) -> None:
    refused = run_job(1, tmp_path, "--dry-run", *settings(small), setting)
    assert refused.codes == [2]
    assert refused.output.startswith(says)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_mistake_is_one_line(ranks: int, small: str, tmp_path: Path) -> None:
    refused = run_job(ranks, tmp_path, "--dry-run", *settings(small, "optim.lr=-1"))
    assert refused.codes == [2] * ranks
    assert refused.output == "error: optim.lr=-1: must be above 0\n"
