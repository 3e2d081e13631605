"""The parts of a job in order: what is refused before anything is written, and where what is made goes."""

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from src import config
from src.errors import NonFinite
from src.gradients.step import StepResult
from src.interrupts import Interrupts
from src.job import building
from src.run import archive, jsonl, layout
from src.world.world import World
from tests.helpers.ranks import ROOT, good_job, in_world, run_job


def settings(small: str, *more: str) -> tuple[str, ...]:
    return ("data.name=idx", f"data.root={small}", "train.epochs=2", "run.name=x", *more)


@pytest.mark.parametrize("name", ["../../x", "a/b", "..", "."])
def test_a_run_s_name_is_no_path(name: str, small: str, tmp_path: Path) -> None:
    refused = run_job(2, tmp_path, *settings(small), f"run.name={name}")
    assert refused.codes == [2, 2]
    assert refused.output == (
        f"error: run.name={name}: must be the name of a folder, not a path; run.root= says where it is\n"
    )
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_checkpoint_s_name_means_a_file_and_nothing_else(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = good_job(1, tmp_path, *settings(small))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").write_bytes((first.run / "checkpoints" / "best.pt").read_bytes())
    taken = good_job(1, tmp_path, *settings(small), "run.name=y", "checkpoint.resume=own")
    assert "(weights of own)" in taken.output
    assert next(jsonl.read(taken.run / "events.jsonl"))["event"] == "start"


COMPILES = """

def build(settings, data, build=build):
    import os, pathlib
    pathlib.Path(os.environ["FOUND"]).write_text(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    return build(settings, data)
"""


def test_what_a_model_compiles_is_kept_in_its_run(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In TMPDIR it would be left behind, or be gone for the next start."""
    found, model = tmp_path / "found", tmp_path / "mine.py"
    model.write_text((ROOT / "src" / "models" / "logistic.py").read_text() + COMPILES)
    monkeypatch.setenv("FOUND", str(found))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    done = good_job(1, tmp_path, *settings(small), f"model.name={model}")
    assert found.read_text() == str(done.run / layout.COMPILED)
    assert not (done.run / layout.COMPILED).exists(), "nothing was compiled"


def test_a_gpu_s_steps_that_moved_nothing_are_not_saved(small: str, tmp_path: Path) -> None:
    """On a GPU it is asked now and then whether a loss was not finite; steps after it would be lost without a word."""
    more = (f"run.root={tmp_path}", "track.wandb=disabled", "optim.momentum=0.9")
    chosen = config.parse([*settings(small), *more])

    def work(world: World) -> str:
        job = building.prepare(chosen, world)
        assert job is not None
        (batch, *_) = job.batches.epoch(0)
        for loss in (1.0, math.nan, 1.0):
            job.gradients.forward_backward(batch, job.state.progress.step, 0.0)
            job.state.update(StepResult(*(torch.tensor(value) for value in (loss, 0.0, 1.0))), 4)
        for save in (job.checkpoints.save, job.checkpoints.mark_best, job.checkpoints.save_last):
            with pytest.raises(NonFinite) as failed:
                save(job.state)
        return str(failed.value)

    (said,) = in_world(1, work, tmp_path).values
    assert said.startswith("the loss or the gradient is not finite at step 3 ")
    assert list((tmp_path / "x" / "checkpoints").iterdir()) == []


def test_a_rank_is_busy_while_its_checkpoint_is_written(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Interrupts` is told before there are checkpoints: a rank that is stuck then is not ended in its write."""
    original, busy = Interrupts, list[Callable[[], bool]]()

    def interrupts(*given: Any) -> Any:
        busy.append(given[3])
        return original(*given)

    def work(world: World) -> list[bool]:
        job = building.prepare(config.parse([*settings(small), f"run.root={tmp_path}", "track.wandb=disabled"]), world)
        assert job is not None
        write, released, seen = archive.write, threading.Event(), [busy[0]()]
        monkeypatch.setattr(archive, "write", lambda *given: released.wait() and write(*given))
        job.checkpoints.save(job.state)
        seen.append(busy[0]())
        released.set()
        job.checkpoints.save_last(job.state)
        return [*seen, busy[0]()]

    monkeypatch.setattr(building, "Interrupts", interrupts)
    assert in_world(1, work, tmp_path).values == [[False, True, False]]
