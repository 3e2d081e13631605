"""The console: rank 0 prints, expected errors are one line with their exit code."""

import json
from pathlib import Path

import pytest

from src import config
from src.config import JobFailed, UserError
from src.console import Console, one_line_errors, run_and_leave
from src.evaluation import Metrics
from src.run.progress import Progress
from src.world.world import World
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

        run_and_leave(main)

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
        screen = Console(World(rank=rank, size=2), config.parse([]))
        screen.say(f"said by {rank}")
        screen.warn(f"warned by {rank}")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("said by 0\n", "warning: warned by 0\n")


def test_a_line_shows_the_mean_loss_since_the_last_one_and_the_time_left(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config.parse(["log.seconds=10", "train.epochs=2", "train.global_batch_size=50"])
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    screen = Console(World(), settings)
    progress = Progress(step=10, step_in_epoch=10)
    screen.line(progress, 100, loss=0.9, count=30, rate=1000.0)
    assert capsys.readouterr().out == "", "the last line is not log.seconds old yet"
    now[0] += 10
    screen.line(Progress(step=20, step_in_epoch=20), 100, loss=0.3, count=10, rate=1000.0)
    # (0.9 * 30 + 0.3 * 10) / 40, and (200 - 20) steps of 50 samples at 1000 a second
    assert capsys.readouterr().out == "epoch 1/2  step  20/100  loss 0.7500  1,000 samples/s  0:00:09 left\n"
    now[0] += 10
    screen.line(Progress(step=30, step_in_epoch=30), 100, loss=0.2, count=10, rate=0.0)
    assert capsys.readouterr().out == "epoch 1/2  step  30/100  loss 0.2000  0 samples/s  ? left\n"


def test_the_summary_names_files_and_the_next_commands(capsys: Captured) -> None:
    screen = Console(World(), config.parse([]))
    screen.summary("runs/x", Progress(epoch=1, step=42), Metrics(7, 10, 0.5, []), 1234.0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "result   7/10 = 70.00 %, loss 0.5000, 1 epochs, 42 steps"
    assert "runs/x/checkpoints/step-00000042.pt" in lines[2]
    assert "python -m src.report runs/x" in lines[3]
