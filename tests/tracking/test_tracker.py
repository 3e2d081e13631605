"""The tracker writes metrics.jsonl always, W&B where it is wanted, and secrets nowhere."""

from pathlib import Path

import pytest

from src import config
from src.evaluation.metrics import Metrics
from src.run import jsonl, results
from src.run.progress import Progress
from src.run.run import Run
from src.schema import TEST
from src.tracking import account
from src.tracking.tracker import Tracker
from src.world.world import World
from tests.helpers.wandb_runs import train


def test_disabled_does_not_import_wandb(small: str, tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("raise SystemExit('imported')")
    done = train(small, tmp_path, "track.wandb=disabled", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "runs" / "x" / "wandb").exists()


def test_secrets_are_not_written(small: str, tmp_path: Path) -> None:
    """In no file and no output, also where a mirror with a password does not answer."""
    key, mirror = "5ec4e7" * 7, "data.mirrors=[http://user:hunter2@127.0.0.1:9/mirror]"
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    theirs = {"WANDB_API_KEY": key, "WANDB_MODE": "offline", **nowhere}
    done = [
        train(small, tmp_path, mirror, **theirs),
        train(small, tmp_path, mirror, "data.name=mnist", "data.fallback=none", f"data.root={tmp_path}", **theirs),
    ]
    assert [one.returncode for one in done] == [0, 2], done
    assert "http://***@127.0.0.1:9/mirror: " in done[1].stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    content = b"".join(file.read_bytes() for file in files) + str(done[0].stdout + done[0].stderr).encode()
    content += str(done[1].stdout + done[1].stderr).encode()
    assert b"127.0.0.1:9/mirror" in content
    assert b"hunter2" not in content
    assert key.encode() not in content


def tracker(folder: Path, rank: int = 0) -> Tracker:
    """Writes into a folder, without W&B."""
    settings = config.parse(["track.wandb=disabled", f"run.root={folder}", "run.name=x"])
    world = World(rank=rank, size=2)
    (folder / "x").mkdir(exist_ok=True)
    return Tracker(Run(folder / "x", world, settings, print), settings, world, print)


METRICS = Metrics(4, {"right": 1, "nats": 2.0}, {"hits": ("right", "count"), "nats": ("nats", "count")}, "nats", False)


def test_rank_0_writes_what_all_ranks_call(tmp_path: Path) -> None:
    progress = Progress(epoch=1, step_in_epoch=3, step=7, samples_seen=70)
    for rank in (1, 0):
        made = tracker(tmp_path, rank)
        made.begin(progress)
        made.train(progress, loss=0.5, lr=0.1, rate=1234.56)
        made.evaluation(TEST, progress, METRICS)
        assert (made.position() > 0) == (rank == 0)
    train, test = jsonl.read(tmp_path / "x" / "metrics.jsonl")
    where = {"epoch": 2, "step": 7, "samples_seen": 70}
    assert train == {"kind": "train", **where, "loss": 0.5, "lr": 0.1, "samples_per_second": 1234.6}
    assert test == {"kind": "test", **where, "right": 1, "count": 4, "hits": 0.25, "nats": 0.5}
    assert results.describe(tmp_path / "x", {}).names == ["hits", "nats"]


def test_lines_and_tables_after_the_checkpoint_are_forgotten(tmp_path: Path) -> None:
    progress = Progress()
    first = tracker(tmp_path)
    first.begin(progress)
    for progress.step in (1, 2, 3):
        first.train(progress, loss=0.5, lr=0.1, rate=1.0)
        if progress.step == 2:
            progress.metrics_bytes = first.position()
    first.evaluation(TEST, progress, METRICS)
    progress.step = 2
    again = tracker(tmp_path)
    again.begin(progress)
    assert not list((tmp_path / "x" / "tables").iterdir())
    again.train(Progress(step=4), loss=0.5, lr=0.1, rate=1.0)
    assert [line["step"] for line in jsonl.read(tmp_path / "x" / "metrics.jsonl")] == [1, 2, 4]


def test_the_banner_s_name_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracker(tmp_path).name == "metrics.jsonl"
    monkeypatch.setattr(account, "mode", lambda _: "offline")
    assert tracker(tmp_path).name == "metrics.jsonl, W&B offline"
