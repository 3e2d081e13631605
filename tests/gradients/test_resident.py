"""Gradients that live in shared memory: the bits of a plain loop, over many steps, and who may have them."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from src import config, schema
from src.data.loader import ShardedLoader
from src.gradients import resident
from src.gradients.build import build_gradients, local_shards, tree_of
from src.gradients.exchange import SMALL
from src.gradients.shared_memory import SharedMemory
from src.optimizer import Optimizer
from src.world.world import World
from tests.helpers.bare_models import bce
from tests.helpers.gradient_steps import CPU, split, wide
from tests.helpers.ranks import in_world
from tests.helpers.tree_sums import DTYPES, SHARDS, block, plain_loops

LENGTHS = (SMALL, SMALL + 3, 1_000_001)


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_the_bits_are_those_of_a_plain_loop_and_one_division(ranks: int, tmp_path: Path) -> None:
    tree = tree_of(schema.Train(sync="bitwise", shards=SHARDS), ranks)
    plain = plain_loops(tree, LENGTHS)

    def work(world: World) -> None:
        memory = SharedMemory(world, tree, 60)
        for length in LENGTHS:
            for dtype in DTYPES:
                own = [tree.blocks[position] for position in tree.blocks_of[world.rank]]
                place = memory.resident(length, dtype)
                assert place is not None
                for tensor, one in zip(place.blocks, own, strict=True):
                    tensor.copy_(block(*one, length, dtype))
                scalars = [[1.0 * one.start, 1.0, 0.5 * one.size] for one in own]
                sums = place.sum(scalars, length - 7)
                expected, scalars_in_all = plain[length, dtype]
                expected[: length - 7] /= scalars_in_all[2]
                assert torch.equal(place.total, expected), (length, dtype)
                assert sums == scalars_in_all

    in_world(ranks, work, tmp_path)


def test_nobody_writes_what_another_still_reads(tmp_path: Path) -> None:
    """Ranks that are late in turn, now before a meeting and now behind it, see the step's sum and no other."""
    length = 200_000

    def work(world: World) -> None:
        memory = SharedMemory(world, tree_of(schema.Train(), world.size), 60)
        place = memory.resident(length, torch.float32)
        assert place is not None
        for turn in range(60):
            place.blocks[0].fill_(turn + world.rank)
            if turn % 3 == world.rank:
                time.sleep(0.002)
            place.sum([[0.0, 0.0, 1.0]], 0)
            if (turn + 1) % 3 == world.rank:
                time.sleep(0.002)
            assert place.total.min() == place.total.max() == 3 * turn + 3

    in_world(3, work, tmp_path)


def test_a_batch_without_items_is_not_divided(tmp_path: Path) -> None:
    def work(world: World) -> None:
        place = SharedMemory(world, tree_of(schema.Train(), world.size), 60).resident(SMALL, torch.float32)
        assert place is not None
        place.blocks[0].zero_()
        place.sum([[0.0, 0.0, 0.0]], SMALL)
        assert not place.total.any()

    in_world(2, work, tmp_path)


def test_what_is_small_or_has_no_room_goes_the_other_way(tmp_path: Path) -> None:
    def work(world: World) -> str:
        memory = SharedMemory(world, tree_of(schema.Train(), world.size), 60)
        assert memory.resident(7850, torch.float32) is None
        assert memory.name == "shared memory"
        resident.MOST = 1 << 20
        assert memory.resident(SMALL, torch.float32) is None
        return memory.name

    said = "shared memory, 1024 kB at a time (the gradients of all ranks are 3 MB)"
    assert in_world(2, work, tmp_path).values == [said] * 2


def trained(*settings: str) -> Callable[[World], tuple[Tensor, str]]:
    """Work for a rank: the weights after some steps with momentum and clipping, and the exchange's name."""

    def work(world: World) -> tuple[Tensor, str]:
        chosen = config.parse(["train.global_batch_size=50", "optim.clip_norm=0.01", "optim.momentum=0.9", *settings])
        module, (shards, own) = wide(), local_shards(chosen.train, world)
        way = build_gradients(module, bce, chosen.train, world)
        optimizer = Optimizer([{"params": list(module.parameters())}], chosen.optim, 6)
        step = 0
        for epoch in range(2):
            for parts in ShardedLoader(split(), chosen.train, own, shards, CPU).epoch(epoch):
                optimizer.step(step, way.forward_backward(parts, step, False))
                step += 1
        return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]), way.name

    return work


def test_training_has_the_same_bits_whether_gradients_live_there_or_not(tmp_path: Path) -> None:
    """Clipping too, which would scale the gradients of all ranks by each rank, were it done in place."""
    ((alone, _),) = in_world(1, trained("train.sync=bitwise"), tmp_path).values
    for ranks, settings in ((2, ()), (3, ()), (2, ("train.exchange=backend",))):
        for found, _ in in_world(ranks, trained("train.sync=bitwise", *settings), tmp_path).values:
            assert torch.equal(found, alone), (ranks, settings)


@pytest.mark.parametrize("settings", [(), ("train.micro_batch_size=8",)])
def test_so_has_ddp_s(settings: tuple[str, ...], tmp_path: Path) -> None:
    def in_turns(world: World) -> tuple[Tensor, str]:
        resident.MOST = 0
        return trained(*settings)(world)

    living = in_world(2, trained(*settings), tmp_path).values
    copied = in_world(2, in_turns, tmp_path).values
    assert living[0][1] == "DDP, shared memory"
    assert copied[0][1].startswith("DDP, shared memory, 1024 kB at a time (the gradients of all ranks are ")
    assert all(torch.equal(found, living[0][0]) for found, _ in living + copied)
