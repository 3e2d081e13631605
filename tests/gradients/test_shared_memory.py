"""Sums through shared memory: sizes, types, and where it cannot be used."""

import resource
from pathlib import Path

import pytest
import torch

from src import schema
from src.errors import UserError
from src.gradients import notes, shared_memory
from src.gradients.build import build_gradients, tree_of
from src.gradients.meeting import CACHE_LINE
from src.gradients.shared_memory import CAPACITY, SharedMemory, objection
from src.gradients.step import SCALARS
from src.world.world import World
from tests.helpers.bare_models import bce
from tests.helpers.gradient_steps import tutorial
from tests.helpers.ranks import in_world


@pytest.mark.parametrize("length", [1, 7850, CAPACITY // 4, CAPACITY // 4 + 1, CAPACITY])
def test_sums_of_any_size_in_rank_order(length: int, tmp_path: Path) -> None:
    def work(world: World) -> None:
        memory = SharedMemory(world, tree_of(schema.Train(), world.size), 10)
        for turn in range(3):
            rows = [torch.rand(length, generator=torch.Generator().manual_seed(turn * 10 + r)) for r in range(3)]
            mine = rows[world.rank].clone()
            scalars = memory.sum([mine], [(world.rank + 0.5, turn, 2.0)], mine)
            assert torch.equal(mine, rows[0] + rows[1] + rows[2])
            assert scalars == [4.5, 3 * turn, 6.0]

    in_world(3, work, tmp_path)


def test_other_types_and_lengths_in_turn(tmp_path: Path) -> None:
    def work(world: World) -> None:
        memory = SharedMemory(world, tree_of(schema.Train(), world.size), 10)
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            for length in (10, 1000, 3):
                mine = torch.full((length,), world.rank + 1, dtype=dtype)
                memory.sum([mine], [(0.0, 0.0, 0.0)], mine)
                assert torch.equal(mine, torch.full((length,), 3, dtype=dtype))

    in_world(2, work, tmp_path)


def shut(_: World) -> None:
    """Simulate a full /dev/shm: no file may grow beyond 1 MB."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))


def test_full_shared_memory_falls_back_to_gloo(tmp_path: Path) -> None:
    def work(world: World) -> list[str]:
        shut(world)
        ways = (schema.Train(), schema.Train(sync="bitwise"))
        return [build_gradients(tutorial(), bce, way, world).name for way in ways]

    said = "gloo (/dev/shm does not take {} MB: File too large)"
    assert in_world(2, work, tmp_path).values == [["DDP, " + said.format(5), "bitwise, " + said.format(5)]] * 2


def test_full_shared_memory_is_an_error_where_it_is_required(tmp_path: Path) -> None:
    def work(world: World) -> str:
        shut(world)
        try:
            build_gradients(tutorial(), bce, schema.Train(exchange="shared_memory"), world)
        except UserError as error:
            return str(error)
        return ""

    said = in_world(2, work, tmp_path).values
    assert said[0] == said[1]
    assert said[0].startswith("train.exchange=shared_memory: /dev/shm does not take 5 MB")


def test_ranks_in_different_containers(tmp_path: Path) -> None:
    def work(world: World) -> str:
        shared_memory._namespace = lambda: f"pid:[{world.rank}]"
        return objection(world)

    assert in_world(2, work, tmp_path).values == ["the ranks are in different containers"] * 2


def test_shared_memory_needs_an_x86_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    assert objection(World()) == ""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert objection(World()) == "the processor is aarch64, not x86-64 under Linux"


def test_reasons_against_shared_memory(tmp_path: Path) -> None:
    assert objection(World(size=4, local_size=2)) == "the ranks are on several hosts"
    assert objection(World(device=torch.device("cuda", 0))) == "the ranks train on GPUs"
    settings = schema.Train(sync="bitwise", exchange="shared_memory")
    with pytest.raises(UserError, match=r"train.exchange=shared_memory: the ranks are on several hosts"):
        build_gradients(tutorial(), bce, settings, World(size=4, local_size=2))


@pytest.mark.parametrize("ranks", [2, 100, 600])
def test_what_many_ranks_write_beside_the_data_has_room(ranks: int) -> None:
    """Two turns of scalars of each block, a line of the cache and the notes of each rank."""
    scalars_at, notes_at, data_at = shared_memory._offsets(ranks, ranks)
    assert scalars_at >= ranks * CACHE_LINE
    assert notes_at - scalars_at >= 2 * ranks * SCALARS * 8
    assert data_at - notes_at >= notes.size(ranks)
