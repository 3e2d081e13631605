"""The world of ranks: joining, agreeing, and losing a rank."""

import os
import re
import resource
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed import (  # type: ignore[attr-defined]
    DebugLevel,
    get_debug_level,
    set_debug_level,
)

from src import console, schema
from src.data.loader import MicroBatch
from src.errors import UserError
from src.gradients.build import build_gradients
from src.world import decisions
from src.world import world as distributed
from src.world.world import World
from tests.helpers.ranks import fork, in_world


def test_agreements(tmp_path: Path) -> None:
    def work(world: World) -> tuple[object, ...]:
        return (
            world.all_gather(world.rank * 10),
            world.rank0_decides(lambda: f"rank {world.rank}"),
            world.all_gather_numbers(torch.tensor([world.rank, 0.1], dtype=torch.float64)),
            (world.rank, world.size, world.local_size, world.backend, world.one_host),
        )

    for rank, value in enumerate(in_world(3, work, tmp_path).values):
        numbers = [[0.0, 0.1], [1.0, 0.1], [2.0, 0.1]]
        assert value == ([0, 10, 20], "rank 0", numbers, (rank, 3, 3, "gloo", True))


@pytest.mark.parametrize("sync", ["ddp", "bitwise"])
def test_the_debug_level_detail_crashes_nothing(sync: str, tmp_path: Path) -> None:
    """torch's checks of each collective end its own DistributedDataParallel with SIGSEGV."""

    def work() -> tuple[bool, bool]:
        set_debug_level(DebugLevel.DETAIL)
        with distributed.join(schema.Train(sync=sync)) as world:
            module = nn.Linear(2, 2)
            gradients = build_gradients(module, loss_of, schema.Train(sync=sync, shards=2), world)
            batch = MicroBatch(torch.ones(2, 2), torch.zeros(2, dtype=torch.int64))
            gradients.forward_backward([batch], 0, 0.0)
            assert module.weight.grad is not None
            return "TORCH_DISTRIBUTED_DEBUG=DETAIL" in world.note, get_debug_level() == DebugLevel.DETAIL

    def loss_of(module: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, int]:
        return module(inputs).sum(), len(targets)

    job = fork(2, work, tmp_path)
    assert job.values == [(sync == "ddp", True)] * 2, job.output


def test_a_user_error_on_one_rank_is_raised_on_all(tmp_path: Path) -> None:
    def fail() -> None:
        raise UserError("no such thing")

    def work(world: World) -> list[str]:
        seen = []
        for decide in (world.rank0_decides, world.each_node_decides):
            with pytest.raises(UserError) as error:
                decide(fail)
            seen.append(str(error.value))
        return seen

    assert in_world(3, work, tmp_path).values == [["no such thing"] * 2] * 3


def test_a_rank_0_of_another_host_that_lives_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody sees its process: its heartbeat is what tells that it lives."""
    monkeypatch.setattr(decisions, "HEARTBEAT_SECONDS", 0.05)

    def work(world: World) -> str:
        def slowly() -> str:
            time.sleep(4)
            return "done"

        world.processes[:] = [replace(each, namespace=str(rank)) for rank, each in enumerate(world.processes)]
        return world.rank0_decides(slowly)

    assert in_world(2, work, tmp_path, "train.timeout_seconds=2").values == ["done"] * 2


def test_a_decision_may_take_longer_than_the_timeout(tmp_path: Path) -> None:
    def work(world: World) -> list[str]:
        def slowly() -> str:
            time.sleep(3)
            return "done"

        return world.each_node_decides(slowly)

    assert in_world(2, work, tmp_path, "train.timeout_seconds=1.5").values == [["done"]] * 2


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        ({"RANK": "0"}, "RANK=0: set, but WORLD_SIZE is not"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2: set, but RANK is not"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK=x: must be a whole number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "the rank must be below the world size"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR= MASTER_PORT=: a world of several ranks needs both"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}, "MASTER_PORT=0"),
    ],
)
def test_an_impossible_environment(variables: dict[str, str], advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error, distributed.join(schema.Train()):
        pass
    assert advice in str(error.value)


def test_losing_another_rank_is_a_one_line_error(tmp_path: Path) -> None:
    """Without a traceback: the console should show the traceback of the rank that failed."""

    def work() -> None:
        with console.one_line_errors(), distributed.join(schema.Train()) as world:
            world.all_gather(None)
            if world.rank == 0:
                os._exit(3)
            world.all_gather(None)

    job = fork(2, work, tmp_path)
    assert job.codes == [3, 1], job.output
    assert re.fullmatch(r"error: rank 0 \(pid \d+\) died\n", job.output), job.output


def test_a_rank_may_open_as_many_sockets_as_it_needs(tmp_path: Path) -> None:
    def work() -> tuple[int, int]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 400))
        with distributed.join(schema.Train()):
            return resource.getrlimit(resource.RLIMIT_NOFILE)

    assert fork(2, work, tmp_path).values == [(400, 400)] * 2


def test_cuda_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=r"train.device=cuda: 1 ranks on this host, 0 GPUs; use train.device=cpu"):
        with distributed.join(schema.Train(device="cuda")):
            pass


def test_more_ranks_than_gpus_train_on_the_cpu_with_a_note(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for world in in_world(2, lambda world: (world.device.type, world.note), tmp_path).values:
        assert world == ("cpu", "2 ranks but only 1 GPU(s): training on CPU")
