"""`python -m src.track push` sends W&B the lines that it does not have yet, once."""

import os
from pathlib import Path

import pytest

from src.run import layout
from src.run import lock as lock_room
from tests.helpers.wandb_runs import expected, identity, pictured, push, received, train
from tests.helpers.wandb_server import WandbServer


def test_push_sends_an_offline_run_once(small: str, tmp_path: Path) -> None:
    train(small, tmp_path)
    train(small, tmp_path, "train.epochs=5")
    run = tmp_path / "runs" / "x"
    (run / "report.html").write_text("<p>what was learned</p>")
    with WandbServer() as server:
        sent = len(expected(run))
        assert f"{sent} lines sent" in push(run, tmp_path, **server.environment).stdout
        assert "0 lines sent" in push(run, tmp_path, **server.environment).stdout
        (tracked,) = server.runs.values()
        assert list(server.runs) == [identity(run)]
        assert received(tracked.history) == expected(run)
        model, report = (
            sent for sent in tracked.artifacts if sent.kind != "run_table"
        )  # wandb makes a run_table for each table
        assert (model.kind, report.kind) == ("model", "report")
        assert report.files["report.html"] == b"<p>what was learned</p>"
        assert model.metadata == report.metadata == layout.read_status(run)
        assert pictured(tracked) == {"templates": 10, "confusion": 10, "most_wrong": 20}


def test_push_without_a_key_or_a_run_says_so(small: str, tmp_path: Path) -> None:
    train(small, tmp_path, "track.wandb=disabled")
    done = push(tmp_path / "runs" / "x", tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "error: no W&B key is set up: run `wandb login`, or set WANDB_API_KEY\n",
    )
    done = push(tmp_path, tmp_path, WANDB_API_KEY="0" * 40)
    assert done.returncode == 2
    assert "is no run" in done.stderr


def test_push_refuses_a_run_that_is_training(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(small, tmp_path, "track.wandb=disabled", "train.epochs=1")
    monkeypatch.setattr(lock_room, "LOCK_SECONDS", 0.1)
    lock = lock_room.hold(tmp_path / "runs" / "x")
    done = push(tmp_path / "runs" / "x", tmp_path, WANDB_API_KEY="0" * 40)
    os.close(lock)
    assert done.returncode == 2
    assert "is in use by host " in done.stderr


def test_an_exported_id_is_not_that_of_all_that_are_pushed(small: str, tmp_path: Path) -> None:
    runs = [tmp_path / name / "runs" / "x" for name in ("a", "b")]
    for run in runs:
        train(small, run.parents[1], "train.epochs=1")
    exported = {"WANDB_RUN_ID": identity(runs[0]), "WANDB_SWEEP_ID": "of another shell"}
    with WandbServer() as server:
        for run in runs:
            assert push(run, run.parents[1], **server.environment, **exported).returncode == 0
        assert list(server.runs) == [identity(run) for run in runs]
        assert [received(server.runs[identity(run)].history) for run in runs] == [expected(run) for run in runs]
