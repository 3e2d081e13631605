"""A run's folder as launchers see it: without torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from src import config
from src.errors import UserError
from src.run import layout
from src.run.layout import ExitCode, State, StopReason
from tests.helpers.ranks import ROOT, good_job, run_job


def test_nothing_here_imports_torch() -> None:
    code = "import sys; import src.run.layout, src.interrupts, src.train; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("left", [0, 1])
def test_settings_that_are_cut_off_are_not_taken_for_defaults(left: int, tmp_path: Path) -> None:
    whole = config.as_yaml(config.parse(["train.epochs=3"]))
    (tmp_path / "config.yaml").write_text(whole[: whole.index("optim:") * left])
    missing = "optim" if left else "data"
    with pytest.raises(UserError, match=rf"config.yaml: is damaged \(no section {missing}\); restore it from a copy"):
        layout.load_settings(tmp_path)


def test_exit_codes_are_the_system_s_where_it_has_one() -> None:
    assert (ExitCode.FINISHED, ExitCode.TRY_AGAIN) == (os.EX_OK, os.EX_TEMPFAIL)
    assert len(set(ExitCode)) == len(ExitCode)


@pytest.mark.parametrize("reason", StopReason)
def test_only_the_user_s_own_stop_is_not_started_again(reason: StopReason) -> None:
    assert reason.restart == (reason not in (StopReason.STOP_FILE, StopReason.MAX_MINUTES))
    assert reason.is_signal == (reason.name.startswith("SIG"))


def test_status_json_says_whether_to_start_again(small: str, tmp_path: Path) -> None:
    chosen = ("data.name=idx", f"data.root={small}", "run.name=x", "checkpoint.every_steps=1")
    stopped = good_job(1, tmp_path, *chosen, "train.max_minutes=0.0001")
    status = layout.read_status(stopped.run)
    assert (status["state"], status["reason"], status["restart"]) == ("preempted", "train.max_minutes", False)
    finished = good_job(1, tmp_path, *chosen, "train.epochs=1")
    status = layout.read_status(finished.run)
    assert (status["state"], status["restart"], "reason" in status) == ("finished", False, False)
    failed = run_job(1, tmp_path, *chosen, "run.name=y", "optim.lr=1e38", "model.loss=cross_entropy")
    status = layout.read_status(failed.run)
    assert (status["state"], status["restart"]) == ("failed", True)


def test_a_finished_run_is_known_without_torch(small: str, tmp_path: Path) -> None:
    chosen = ["data.name=idx", f"data.root={small}", f"run.root={tmp_path / 'runs'}", "train.epochs=1", "run.name=x"]
    chosen.append("model.name=logistic")
    good_job(1, tmp_path, *chosen)
    code = (
        "import sys; from src import train; sys.argv = ['train', *sys.argv[1:]]; train.main();"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, *chosen, "track.wandb=disabled"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    path = tmp_path / "runs" / "x"
    assert done.stdout == f"{layout.finished_line(path)}\nFalse\n"
    settings = config.parse(chosen)
    assert layout.is_finished(path, settings)
    assert not layout.is_finished(path, config.parse([*chosen, "train.epochs=2"]))
    assert not layout.is_finished(path, config.parse([*chosen, "optim.lr=0.5"]))
    newest = layout.checkpoint(path, 16)
    newest.write_bytes(newest.read_bytes()[:-1])
    assert not layout.is_finished(path, settings), "its last checkpoint is damaged"


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_status_that_cannot_be_read_is_empty(text: str, tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text(text)
    assert layout.read_status(tmp_path) == {}
    (tmp_path / "status.json").write_text(json.dumps({"state": State.RUNNING}))
    assert layout.read_status(tmp_path) == {"state": "running"}


def test_a_run_s_settings_are_read_by_the_copy_of_its_model(small: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    source = (ROOT / "src" / "models" / "logistic.py").read_text()
    mine.write_text(source.replace("    loss: str = key(", "    extra: int = 3\n    loss: str = key(", 1))
    done = good_job(
        1, tmp_path, "data.name=idx", f"data.root={small}", f"model.name={mine}", "model.extra=5", "train.epochs=1"
    )
    mine.unlink()
    assert layout.load_settings(done.run).model.settings == {"extra": 5, "loss": "bce"}
