"""The console: rank 0 prints, expected errors are one line with their exit code."""

import json
from pathlib import Path

import pytest

from src import leaving
from src.console import Console, one_line_errors
from src.errors import JobFailed, ModelFailed, UserError
from src.run.progress import Progress
from tests.helpers.launched import given
from tests.helpers.ranks import fork

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (UserError("optim.lr=-1: must be above 0"), 2, "error: optim.lr=-1: must be above 0\n"),
        (JobFailed("rank 1 died"), 1, "error: rank 1 died\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_expected_error_is_one_line_and_its_exit_code(
    error: BaseException, code: int, printed: str, capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise error
    assert end.value.code == code
    assert capsys.readouterr().err == printed


def test_an_unexpected_error_keeps_its_traceback(tmp_path: Path) -> None:
    def work() -> None:
        def main() -> None:
            raise ZeroDivisionError("by nothing")

        leaving.end_now(leaving.exit_code(main))

    job = fork(1, work, tmp_path)
    assert job.codes == [1]
    assert job.output.startswith("Traceback")
    assert job.output.endswith("ZeroDivisionError: by nothing\n")


def test_torchrun_is_told_the_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where torchrun gives a file for it, its last lines show the message instead of `error_file: <N/A>`."""
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    with pytest.raises(SystemExit), one_line_errors():
        raise JobFailed("rank 1 died")
    content = json.loads((tmp_path / "error.json").read_text())["message"]
    assert content["message"] == content["extraInfo"]["py_callstack"] == "rank 1 died"


def test_rank_0_alone_prints(capsys: Captured) -> None:
    for rank in (1, 0):
        screen = Console(rank == 0, epochs=1, batch=64, seconds=0)
        screen.print(f"said by {rank}")
        screen.warn(f"warned by {rank}")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("said by 0\n", "warning: warned by 0\n")


def test_a_line_shows_the_mean_loss_since_the_last_one_and_the_time_left(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    screen = Console(True, epochs=2, batch=50, seconds=10)
    screen.start(steps_per_epoch=100, last_step=200)
    screen.training(Progress(step=10, step_in_epoch=10), loss=0.9, items=30, rate=1000.0)
    assert capsys.readouterr().out == "", "the last line is not log.seconds old yet"
    now[0] += 10
    screen.training(Progress(step=20, step_in_epoch=20), loss=0.3, items=10, rate=1000.0)
    # (0.9 * 30 + 0.3 * 10) / 40, and (200 - 20) steps of 50 samples at 1000 a second
    assert capsys.readouterr().out == "epoch 1/2  step  20/100  loss 0.7500  1,000 samples/s  0:00:09 left\n"
    now[0] += 10
    screen.training(Progress(step=30, step_in_epoch=30), loss=0.2, items=10, rate=0.0)
    assert capsys.readouterr().out == "epoch 1/2  step  30/100  loss 0.2000  0 samples/s  ? left\n"


def test_rows_are_labelled(capsys: Captured) -> None:
    Console(True, epochs=1, batch=64, seconds=0).rows({"run": "runs/x", "speed": "fast"})
    assert capsys.readouterr().out == "run      runs/x\nspeed    fast\n"


def test_an_error_in_the_model_s_file_is_its_own_traceback(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise ModelFailed("ValueError: no", "Traceback ...\nValueError: no\n")
    assert end.value.code == 1
    assert capsys.readouterr().err == "Traceback ...\nValueError: no\n"
    assert json.loads((tmp_path / "error.json").read_text())["message"]["message"] == "ValueError: no"


@pytest.mark.parametrize(
    ("of_ranks", "variables", "prints"),
    [
        (False, "RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2", True),  # a command that is no rank
        (False, "RANK=abc", True),
        (False, "SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=4 SLURM_STEP_NODELIST=n SLURM_LOCALID=3", True),
        (True, "RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 TORCHELASTIC_RUN_ID=x", False),
        (True, "RANK=1 WORLD_SIZE=2", True),  # in a pod of its own, with a log of its own
        (True, "RANK=7 WORLD_SIZE=2", True),
        (True, "SLURM_PROCID=3 SLURM_STEP_NUM_TASKS=4 SLURM_STEP_NODELIST=n SLURM_LOCALID=3", False),
        (True, "SLURM_PROCID=2 SLURM_STEP_NUM_TASKS=4 SLURM_STEP_NODELIST=n[1-2] SLURM_LOCALID=0", True),
    ],
)
def test_who_reports_a_mistake(
    of_ranks: bool, variables: str, prints: bool, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    given(monkeypatch, variables)
    with pytest.raises(SystemExit) as end, one_line_errors(of_ranks):
        raise UserError("optim.lr=-1: must be above 0")
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: optim.lr=-1: must be above 0\n" * prints


def test_the_error_file_of_a_torchrun_that_is_gone(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", "/no/such/folder/error.json")
    with pytest.raises(SystemExit) as end, one_line_errors():
        raise UserError("a mistake")
    assert (end.value.code, capsys.readouterr().err) == (2, "error: a mistake\n")


def test_a_training_that_ends_within_an_epoch(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(True, epochs=10, batch=50, seconds=0)
    screen.start(steps_per_epoch=100, last_step=150)
    screen.training(Progress(epoch=1, step=110, step_in_epoch=10), loss=0.5, items=10, rate=100.0)
    assert capsys.readouterr().out == "epoch 2/2  step  10/100  loss 0.5000  100 samples/s  0:00:20 left\n"
