"""Notes reach every rank as they were written, whatever carries the gradients, and cost the gradients no bit."""

from pathlib import Path

import pytest
import torch

from src import config
from src.data.loader import ShardedLoader
from src.gradients import build as gradients
from src.gradients.notes import NUMBERS, Board, size
from src.world.world import World
from tests.helpers.bare_models import bce
from tests.helpers.gradient_steps import BATCH, CPU, split, tutorial, wide
from tests.helpers.ranks import in_world

WAYS = [(sync, exchange) for sync in ("ddp", "bitwise") for exchange in ("shared_memory", "backend")]
EVERY = 2  # steps


def note(rank: int, step: int) -> torch.Tensor:
    return torch.tensor([2.0**16 - 1 - rank, *range(1, NUMBERS - 1), 0.25 * step], dtype=torch.float64)


@pytest.mark.parametrize("make", [tutorial, wide])
@pytest.mark.parametrize(("sync", "exchange"), WAYS)
def test_they_arrive(sync: str, exchange: str, make: "type", tmp_path: Path) -> None:
    def work(world: World) -> bool:
        settings = [f"train.global_batch_size={BATCH}", f"train.sync={sync}", f"train.exchange={exchange}"]
        chosen = config.parse(settings).train
        number, own = gradients.local_shards(chosen, world)
        ways = [(gradients.build_gradients(one, bce, chosen, world), one) for one in (make(), make())]
        batches = ShardedLoader(split(), chosen, own, number, CPU)
        for step, parts in enumerate(batches.epoch(0)):
            told = note(world.rank, step) if step % EVERY == 0 else None
            result = ways[0][0].forward_backward(parts, step, 0.0, told)
            plain = ways[1][0].forward_backward(parts, step, 0.0)
            assert (result.loss, result.votes, result.items) == (plain.loss, plain.votes, plain.items)
            for one, other in zip(ways[0][1].parameters(), ways[1][1].parameters(), strict=True):
                assert one.grad is not None
                assert other.grad is not None
                assert torch.equal(one.grad, other.grad)
            assert plain.notes is None
            if told is None:
                assert result.notes is None
                continue
            rows = torch.as_tensor(result.notes, dtype=torch.float64)
            assert torch.equal(rows, torch.stack([note(rank, step) for rank in range(world.size)]))
        return True

    assert in_world(3, work, tmp_path).values == [True] * 3


@pytest.mark.parametrize("sync", ["ddp", "bitwise"])
def test_a_rank_alone_hears_itself(sync: str) -> None:
    chosen = config.parse([f"train.sync={sync}", f"train.global_batch_size={BATCH}"]).train
    number, own = gradients.local_shards(chosen, World())
    way = gradients.build_gradients(tutorial(), bce, chosen, World())
    parts = next(ShardedLoader(split(), chosen, own, number, CPU).epoch(0))
    rows = way.forward_backward(parts, 0, 0.0, note(0, 4)).notes
    assert torch.equal(torch.as_tensor(rows, dtype=torch.float64), note(0, 4)[None])
    assert way.forward_backward(parts, 1, 0.0).notes is None


def test_a_fast_rank_does_not_write_over_what_a_slow_one_still_reads() -> None:
    numbers = memoryview(bytearray(size(2))).cast("d")
    fast, slow = Board(0, 2, numbers), Board(1, 2, numbers)
    for turn in range(4):
        fast.write([1.0 + turn] * NUMBERS)
        slow.write([10.0 + turn] * NUMBERS)  # both have met, and the fast one is at its next note
        fast.read()
        fast.write([2.0 + turn] * NUMBERS)
        assert slow.read() == [[1.0 + turn] * NUMBERS, [10.0 + turn] * NUMBERS]
        slow.write([11.0 + turn] * NUMBERS)
