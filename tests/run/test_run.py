"""A run directory: found again, continued, prolonged, and refused where settings or data contradict it."""

from pathlib import Path

import pytest
import torch

from src import config, files
from src.data.dataset import DataSet
from src.data.splits import Spec, Split
from src.errors import UserError
from src.run import archive, lock
from src.run import run as run
from src.run.layout import read_status
from src.world.world import World
from tests.helpers.data_sets import write_data_set
from tests.helpers.short_runs import job


def test_a_finished_run_is_reported_as_finished(small: str, tmp_path: Path) -> None:
    first = job(small, tmp_path)
    again = job(small, tmp_path, ranks=3)
    assert "is finished" in again.output
    assert read_status(again.run) == read_status(first.run)
    assert again.output.count("\n") == 1


def test_more_epochs_prolong_a_finished_run(small: str, tmp_path: Path) -> None:
    whole = job(small, tmp_path / "whole", "train.epochs=6")
    job(small, tmp_path, "train.epochs=4")
    prolonged = job(small, tmp_path, "train.epochs=6", ranks=3)
    assert "resumed at step 64, 2 ranks before" in prolonged.output
    assert read_status(prolonged.run)["weights_sha256"] == read_status(whole.run)["weights_sha256"]


def test_contradicting_settings_are_listed(small: str, tmp_path: Path) -> None:
    first = job(small, tmp_path)
    before = (first.run / "config.yaml").read_bytes()
    refused = job(small, tmp_path, "optim.lr=0.5", "train.seed=3", "log.every=1", fails=True)
    assert refused.codes == [2, 2]
    assert (first.run / "config.yaml").read_bytes() == before
    assert "optim.lr 0.01 -> 0.5; train.seed 0 -> 3" in refused.output
    assert refused.output.count("error:") == 1


def test_resume_never_renames_the_old_run(small: str, tmp_path: Path) -> None:
    first = job(small, tmp_path)
    before = (first.run / "metrics.jsonl").read_bytes()
    job(small, tmp_path, "checkpoint.resume=never", "optim.lr=0.5")
    (aside,) = [path for path in (tmp_path / "runs").iterdir() if path.name != "r"]
    assert (aside / "metrics.jsonl").read_bytes() == before
    assert (first.run / "metrics.jsonl").read_bytes() != before


def test_changed_data_is_refused(small: str, tmp_path: Path) -> None:
    first = job(small, tmp_path, "train.epochs=2")
    records = [first.run / name for name in ("config.yaml", "provenance.json", "status.json", "metrics.jsonl")]
    before = [file.read_bytes() for file in records]
    write_data_set(tmp_path / "IDX" / "raw", 1009, 200, seed=5)
    refused = job(str(tmp_path), tmp_path, fails=True)
    assert refused.codes == [2, 2]
    assert "was trained on other data" in refused.output
    assert [file.read_bytes() for file in records] == before


def test_a_full_disk_at_the_end_is_an_error(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    write_text = files.write_text

    def full_later(file: Path, text: str) -> None:
        if file.exists():
            full()
        write_text(file, text)

    monkeypatch.setattr(archive, "write", full)
    monkeypatch.setattr(files, "write_text", full_later)
    failed = job(small, tmp_path, fails=True)
    assert failed.codes == [75, 75]
    assert "No space left on device: step 64 cannot be saved, nothing is; make room there" in failed.output
    assert "and run the same command" in failed.output
    assert {name: read_status(failed.run)[name] for name in ("state", "step")} == {"state": "failed", "step": 0}


def test_two_runs_are_set_aside_in_the_same_second(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the clock goes back."""
    monkeypatch.setattr("time.strftime", lambda *_: "then")
    for _ in range(3):
        job(small, tmp_path, "checkpoint.resume=never", "train.epochs=1", ranks=1)
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"r", "r.then", "r.then-2"}


def test_the_folder_that_is_made_for_one_that_is_set_aside_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.0)
    path = tmp_path / "r"
    path.mkdir()
    (path / "config.yaml").touch()
    held = run.Run(path, World(), config.parse(["checkpoint.resume=never"]), print)
    held._lock = lock.hold(path)
    held._set_aside()
    with pytest.raises(UserError, match="is in use by"):
        lock.hold(path)


def test_a_signal_ends_the_wait_for_another_host_s_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(lock, "hold", lambda path, warn, stopped: asked.append(stopped))
    taken = run.Run(tmp_path / "r", World(), config.parse([]), print)
    split = Split(torch.zeros(1, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    spec = Spec((2,), torch.uint8, 1)

    def stopped() -> bool:
        return True

    taken.open(DataSet(name="x", train=split, test=split, spec=spec, checksums={}), stopped)
    assert asked == [stopped]
