"""A rank whose weights differ by one bit is named, before anything of it is saved."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.errors import JobFailed
from src.gradients.step import StepResult
from src.replicas import Replicas
from src.run import layout
from src.run.layout import State
from src.run.state import TrainState
from src.world.world import World
from tests.helpers.ranks import Job, in_world, run_job

HOSTS = [f"node{rank}" for rank in range(6)]
WAYS = [("ddp", "shared_memory"), ("bitwise", "shared_memory"), ("ddp", "backend"), ("bitwise", "backend")]


def flip(tensor: Tensor, bit: int = 0) -> None:
    """Change one bit of the tensor's middle, in place."""
    data = tensor.detach().view(-1).view(torch.uint8)
    data[len(data) // 2] ^= 1 << bit


def flipped_job(small: str, folder: Path, monkeypatch: pytest.MonkeyPatch, at: int, *settings: str) -> Job:
    """A job on 3 ranks, of which rank 1 has another bit in its weights after that step."""
    original = TrainState.update

    def update(self: TrainState, result: StepResult, samples: int) -> None:
        original(self, result, samples)
        if self.progress.step == at and os.environ["RANK"] == "1":
            flip(next(self.module.parameters()))

    monkeypatch.setattr(TrainState, "update", update)
    fixed = ("data.name=idx", f"data.root={small}", "run.name=r", "train.epochs=3", "log.every=5")  # 16 steps an epoch
    return run_job(3, folder, *fixed, *settings)


@pytest.mark.parametrize(("sync", "exchange"), WAYS)
def test_a_flipped_bit_stops_the_job(
    sync: str, exchange: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next line is that of step 21, with which the digest after step 20 travels."""
    job = flipped_job(small, tmp_path, monkeypatch, 18, f"train.sync={sync}", f"train.exchange={exchange}")
    assert job.codes == [1, 1, 1], job.output
    host = os.uname().nodename
    said = f"rank 1 on {host}: its weights differ from those of the other ranks at step 20"
    assert f"error: {said} (a memory fault, or code that" in job.output
    assert "; the checkpoint of step 16 is the last good one\n" in job.output
    assert "Traceback" not in job.output
    status = layout.read_status(tmp_path / "runs" / "r")
    assert status["state"] == State.FAILED
    assert status["reason"].startswith(said)
    assert saved(tmp_path) == [16]


def test_what_a_checkpoint_would_save_is_looked_at_first(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = flipped_job(small, tmp_path, monkeypatch, 8, "checkpoint.every_steps=4")
    assert job.codes == [1, 1, 1], job.output
    assert "its weights differ from those of the other ranks at step 8" in job.output
    assert "the checkpoint of step 4 is the last good one" in job.output
    assert saved(tmp_path) == [4]


def saved(folder: Path) -> list[int]:
    """The steps of the checkpoints."""
    return [int(file.stem.partition("-")[2]) for file in (folder / "runs" / "r" / "checkpoints").glob("step-*.pt")]


def saved_7() -> int | None:
    return 7


def made(world: World) -> tuple[Replicas, nn.Module, nn.Module]:
    torch.manual_seed(0)
    module, average = (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2))
    return Replicas(world, module, average, print), module, average


@pytest.mark.parametrize("place", ["0.weight", "1.running_mean", "1.num_batches_tracked", "average"])
def test_everything_that_is_saved_of_the_model_counts(place: str, tmp_path: Path) -> None:
    def work(world: World) -> str:
        replicas, module, average = made(world)
        replicas.check_now(1, saved_7)
        if world.rank == 2:
            flip(average[0].weight if place == "average" else module.state_dict()[place])  # type: ignore[index]
        replicas.check_now(1, saved_7)  # of this step it is known
        with pytest.raises(JobFailed) as failed:
            replicas.check_now(2, saved_7)
        return str(failed.value)

    said = in_world(3, work, tmp_path).values
    assert all(one.startswith(f"rank 2 on {os.uname().nodename}: its weights differ") for one in said), said


def test_different_processors_may_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(world: World) -> None:
        monkeypatch.setattr("src.replicas.device_name", lambda _: f"processor {world.rank % 2}")
        replicas, module, _ = made(world)
        if world.rank == 2:
            flip(module[0].weight)  # type: ignore[index]
        replicas.check_now(2, saved_7)
        replicas.check_now(3, saved_7)

    job = in_world(3, work, tmp_path)
    assert job.output.count("the ranks' weights differ: their processors do (processor 0, processor 1)") == 3, (
        "once each"
    )


def test_all_are_named_where_there_is_no_majority(tmp_path: Path) -> None:
    def work(world: World) -> str:
        replicas, module, _ = made(world)
        if world.rank:
            flip(module[0].weight)  # type: ignore[index]
        with pytest.raises(JobFailed) as failed:
            replicas.check_now(3, lambda: None)
        return str(failed.value)

    host, said = os.uname().nodename, in_world(2, work, tmp_path).values
    assert said[0] == said[1]
    assert said[0].startswith(f"ranks 0 on {host}, 1 on {host}: their weights differ from one another at step 3")
    assert said[0].endswith("; nothing is saved yet")


def test_a_few_of_many_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.replicas.hosts", lambda world: HOSTS + [f"node{rank}" for rank in range(6, 14)])
    replicas, _, _ = made(World())
    usual = [1.0, 2.0, 3.0, 4.0]
    replicas.check([usual] * 14, 5, saved_7)
    with pytest.raises(JobFailed, match=r"^rank 3 on node3: its weights differ"):
        replicas.check([usual] * 3 + [[1.0, 2.0, 3.0, 5.0]] + [usual] * 10, 5, saved_7)
    with pytest.raises(JobFailed, match=r"^ranks 0 on node0, 1 on node1, 2 on node2, 3 on node3 and 2 more: their"):
        replicas.check([[9.0, 9.0, 9.0, float(rank)] for rank in range(6)] + [usual] * 8, 5, saved_7)


def test_a_rank_alone_has_nobody_to_differ_from() -> None:
    replicas, module, _ = made(World())
    replicas.check_now(1, saved_7)
    flip(module[0].weight)  # type: ignore[index]
    replicas.check_now(2, saved_7)
