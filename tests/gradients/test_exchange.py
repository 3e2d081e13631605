"""Adding the ranks' blocks: through gloo and through shared memory, small and large, the bits of a plain loop."""

import time
from pathlib import Path

import pytest
import torch

from src import schema
from src.gradients import exchange as exchange_room
from src.gradients import shared_memory
from src.gradients.build import tree_of
from src.gradients.exchange import Backend, Exchange, Local
from src.gradients.shared_memory import CAPACITY, SharedMemory
from src.gradients.tree import Tree
from src.world.world import World
from tests.helpers.emulated import Collectives
from tests.helpers.ranks import in_world
from tests.helpers.tree_sums import DTYPES, SHARDS, block, plain_loops


def through(way: str, world: World, tree: Tree) -> Exchange:
    return SharedMemory(world, tree, 60) if way == "memory" else Backend(world, tree, "gloo")


LENGTHS = (1, 100, 7850, exchange_room.SMALL // 4 + 3, CAPACITY // 4 + 5, 2 * CAPACITY // 4 + 1)


@pytest.mark.parametrize("way", ["memory", "gloo"])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_the_bits_are_those_of_a_plain_loop(way: str, ranks: int, tmp_path: Path) -> None:
    tree = tree_of(schema.Train(sync="bitwise", shards=SHARDS), ranks)
    plain = plain_loops(tree, LENGTHS)

    def work(world: World) -> None:
        exchange = through(way, world, tree)
        for length in LENGTHS:
            for dtype in DTYPES:
                own = [tree.blocks[position] for position in tree.blocks_of[world.rank]]
                blocks = [block(*one, length, dtype) for one in own]
                total = torch.empty(length, dtype=dtype)
                sums = exchange.sum(blocks, [[1.0 * one.start, 1.0, 0.5 * one.size] for one in own], total)
                expected, scalars = plain[length, dtype]
                assert torch.equal(total, expected), (length, dtype)
                assert sums == scalars

    in_world(ranks, work, tmp_path)


@pytest.mark.parametrize("way", ["memory", "gloo"])
def test_the_total_may_be_one_of_the_blocks(way: str, tmp_path: Path) -> None:
    tree = tree_of(schema.Train(), 2)

    def work(world: World) -> None:
        exchange = through(way, world, tree)
        for length in (10, exchange_room.SMALL):
            mine = torch.full((length,), world.rank + 1.0)
            exchange.sum([mine], [[0.0, 0.0, 0.0]], mine)
            assert torch.equal(mine, torch.full((length,), 3.0))

    in_world(2, work, tmp_path)


def test_small_and_large_sums_in_turn(tmp_path: Path) -> None:
    """One meeting of the ranks a turn, or two: neither may overwrite what another rank still reads."""
    tree = tree_of(schema.Train(), 3)

    def work(world: World) -> None:
        exchange = through("memory", world, tree)
        for turn in range(300):
            length = (10, exchange_room.SMALL, 50_000)[turn % 3]
            mine = torch.full((length,), float(turn + world.rank))
            total = torch.empty(length)
            exchange.sum([mine], [[float(world.rank), 0.0, 1.0]], total)
            assert total.min() == total.max() == 3 * turn + 3

    in_world(3, work, tmp_path)


def test_a_world_of_one() -> None:
    total, block = torch.zeros(2), torch.tensor([1.0, 2.0])
    assert Local().sum([block], [[3.0, 1.0, 2.0]], total) == [3.0, 1.0, 2.0]
    assert torch.equal(total, block)


def test_many_blocks_fit_a_container_s_memory() -> None:
    """64 MB of /dev/shm is what a container has by default."""
    blocks = len(tree_of(schema.Train(sync="bitwise", shards=64), 7).blocks)
    assert blocks > 20
    assert shared_memory.size(7, blocks) < 64 << 20
    assert shared_memory.capacity(2) == CAPACITY


@pytest.mark.parametrize(
    ("ranks", "shards", "length"),
    [(64, 64, 300), (100, 150, 10), (7, 9, 3)]
    + [pytest.param(*sizes, marks=pytest.mark.slow(seconds=12)) for sizes in ((1024, 1024, 3000), (1000, 1024, 1001))],
)
def test_the_owners_of_many_ranks_add_what_one_adds(
    ranks: int, shards: int, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emulated, threads instead of processes: a rank sends each of its blocks once and its range of the sum to all."""
    collectives = Collectives(ranks)
    monkeypatch.setattr(exchange_room, "dist", collectives)
    monkeypatch.setattr(exchange_room, "SMALL", 0)
    tree = tree_of(schema.Train(sync="bitwise", shards=shards), ranks)
    rows = [torch.randn(length, generator=torch.Generator().manual_seed(at)) for at in range(len(tree.blocks))]
    expected = exchange_room._added([row.clone() for row in rows], tree)

    def work(world: World) -> bool:
        mine = tree.blocks_of[world.rank]
        total = torch.empty(length)
        numbers = Backend(world, tree, "").sum([rows[at] for at in mine], [[float(at), 1, 2] for at in mine], total)
        return torch.equal(total, expected) and numbers[1:] == [len(rows), 2 * len(rows)]

    assert all(collectives.run(work))
    padded, most = -(-length // ranks) * ranks * 4, max(map(len, tree.blocks_of))
    assert max(collectives.sent) <= (most + 1) * padded + 24 * most * ranks


@pytest.mark.parametrize("way", ["memory", "gloo"])
def test_who_waits_for_a_late_rank_counts_the_seconds(way: str, tmp_path: Path) -> None:
    tree = tree_of(schema.Train(), 2)

    def work(world: World) -> float:
        exchange, mine = through(way, world, tree), torch.zeros(10)
        exchange.sum([mine], [[0.0, 0.0, 0.0]], mine)
        before = exchange.waited
        time.sleep(0.5 * world.rank)
        exchange.sum([mine], [[0.0, 0.0, 0.0]], mine)
        return exchange.waited - before

    early, late = in_world(2, work, tmp_path).values
    assert early > late
    assert early > 0.1
