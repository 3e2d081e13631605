"""However many ranks: the gradient of the global batch, and with bitwise the same bits."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src import config, schema
from src.data.dataset import Split
from src.data.loader import ShardedLoader
from src.errors import UserError
from src.gradients import build as gradients
from src.gradients import step as step_room
from src.models import logistic
from src.world.world import World
from tests.helpers.ranks import in_world, quiet_threads

CPU = torch.device("cpu")
BATCH = 50
STEPS = 3


def split() -> Split:
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (130, 784), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randint(0, 10, (130,), generator=generator))


def wide() -> nn.Module:
    """Larger than the shared memory's slots, in several of DDP's buckets."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 900), nn.ReLU(), nn.Linear(900, 900), nn.ReLU(), nn.Linear(900, 10))


def tutorial() -> nn.Module:
    return logistic.build(0)


def steps(make: Callable[[], nn.Module], *settings: str) -> Callable[[World], tuple[list[Tensor], list[float], str]]:
    """Gradients (flat) and losses of a few steps, the last batch being short, and what it calls itself."""

    def work(world: World) -> tuple[list[Tensor], list[float], str]:
        chosen = config.parse([f"train.global_batch_size={BATCH}", *settings]).train
        module = make()
        number, own = gradients.local_shards(chosen, world)
        batches = ShardedLoader(split(), chosen, own, number, CPU)
        way = gradients.build_gradients(module, logistic.loss_function("bce"), chosen, world)
        found, losses = [], []
        for step, parts in enumerate(batches.epoch(0)):
            total = way.forward_backward(parts, batches.count(step), step, False)
            found.append(torch.cat([p.grad.flatten().clone() for p in module.parameters() if p.grad is not None]))
            losses.append(float(total.loss))
        return found, losses, way.name

    return work


def big_batch(make: Callable[[], nn.Module]) -> tuple[list[Tensor], list[float]]:
    """The same in one process, without anything of ours but the order."""
    module, data = make(), split()
    order = torch.randperm(130, generator=torch.Generator().manual_seed(0))
    found, losses = [], []
    for chosen in torch.split(order, BATCH):
        module.zero_grad()
        probabilities = torch.sigmoid(module(data.images[chosen].float() / 255))
        loss = nn.BCELoss()(probabilities, logistic.targets(data.labels[chosen], "bce"))
        loss.backward()
        found.append(torch.cat([p.grad.flatten().clone() for p in module.parameters() if p.grad is not None]))
        losses.append(loss.item() * len(chosen))
    return found, losses


@pytest.mark.parametrize("settings", [("train.sync=ddp",), ("train.exchange=backend",), ("train.sync=bitwise",)])
@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_find_the_big_batch_gradient(settings: tuple[str, ...], world_size: int, tmp_path: Path) -> None:
    with quiet_threads():
        expected, losses = big_batch(tutorial)
    for found, seen, _ in in_world(world_size, steps(tutorial, *settings), tmp_path).values:
        assert len(found) == STEPS
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
        assert seen == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("settings", [("train.exchange=auto",), ("train.exchange=backend",), ("train.sync=bitwise",)])
def test_a_model_larger_than_the_slots(settings: tuple[str, ...], tmp_path: Path) -> None:
    with quiet_threads():
        expected, losses = big_batch(wide)
    for found, seen, _ in in_world(2, steps(wide, *settings), tmp_path).values:
        assert seen == pytest.approx(losses, rel=1e-5)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("exchange", ["auto", "backend"])
def test_bitwise_bits_do_not_depend_on_the_world(exchange: str, tmp_path: Path) -> None:
    work = steps(tutorial, "train.sync=bitwise", f"train.exchange={exchange}")
    alone = in_world(1, work, tmp_path).values[0]
    for world_size in (2, 3, 8):
        for found, losses, _ in in_world(world_size, work, tmp_path).values:
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, alone[0], strict=True))
            assert losses == alone[1]


def test_dropout_draws_the_same_in_every_world(tmp_path: Path) -> None:
    def dropping() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Dropout(0.5), nn.Linear(784, 10))

    work = steps(dropping, "train.sync=bitwise")
    (alone, _, _) = in_world(1, work, tmp_path).values[0]
    (together, _, _) = in_world(3, work, tmp_path).values[2]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(together, alone, strict=True))
    assert not torch.equal(alone[0], alone[1])


def test_the_exchange_says_what_it_is(tmp_path: Path) -> None:
    names = {}
    for settings in ("train.sync=ddp", "train.exchange=backend", "train.sync=bitwise"):
        names[settings] = in_world(2, steps(tutorial, settings), tmp_path).values[0][2]
    assert names == {
        "train.sync=ddp": "DDP, shared memory",
        "train.exchange=backend": "DDP, gloo",
        "train.sync=bitwise": "bitwise, shared memory",
    }


def test_votes_reach_every_rank(tmp_path: Path) -> None:
    def work(world: World) -> list[bool]:
        chosen = schema.Train(global_batch_size=BATCH)
        number, own = gradients.local_shards(chosen, world)
        batches = ShardedLoader(split(), chosen, own, number, CPU)
        way = gradients.build_gradients(tutorial(), logistic.loss_function("bce"), chosen, world)
        totals = (
            way.forward_backward(parts, batches.count(step), step, world.rank == 1 and step == 1)
            for step, parts in enumerate(batches.epoch(0))
        )
        return [total.should_stop(step) for step, total in enumerate(totals)]

    assert in_world(3, work, tmp_path).values == [[False, True, False]] * 3


def test_votes_that_are_tensors_are_asked_for_now_and_then() -> None:
    """On a GPU, asking costs a wait for it."""
    wanted = step_room.StepResult(torch.tensor(0.0), torch.tensor(2.0))
    steps = [step for step in range(1, 40) if wanted.should_stop(step)]
    assert steps == [step_room.GPU_LOOK_STEPS, 2 * step_room.GPU_LOOK_STEPS]
    assert not step_room.StepResult(torch.tensor(0.0), torch.tensor(0.0)).should_stop(step_room.GPU_LOOK_STEPS)


def test_more_ranks_than_shards_are_refused() -> None:
    with pytest.raises(UserError, match=r"train.shards=4: 5 ranks cannot share them; start at most 4"):
        gradients.local_shards(schema.Train(sync="bitwise", shards=4), World(size=5))


def test_batch_norm_is_refused_in_bitwise() -> None:
    module = nn.Sequential(nn.BatchNorm1d(784), nn.Linear(784, 10))
    with pytest.raises(UserError, match=r"train.sync=bitwise: the model has buffers \(0.running_mean"):
        gradients.build_gradients(module, logistic.loss_function("bce"), schema.Train(sync="bitwise"), World())


class HalfUsed(nn.Module):
    """A layer that nothing depends on, as after a careless edit."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.used, self.unused = nn.Linear(784, 10), nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.used(images)
        return logits


def part_frozen() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(784, 16), nn.Linear(16, 10))
    module[0].requires_grad_(False)
    return module


@pytest.mark.parametrize("settings", [("train.sync=ddp",), ("train.exchange=backend",), ("train.sync=bitwise",)])
def test_frozen_parameters(settings: tuple[str, ...], tmp_path: Path) -> None:
    with quiet_threads():
        expected, _ = big_batch(part_frozen)
    for found, _, _ in in_world(2, steps(part_frozen, *settings), tmp_path).values:
        assert found[0].numel() == 16 * 10 + 10
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


def test_unused_parameters(tmp_path: Path) -> None:
    def refused(world: World) -> str:
        with pytest.raises(UserError) as found:
            steps(HalfUsed)(world)
        return str(found.value)

    for found, _, _ in in_world(2, steps(HalfUsed, "train.sync=bitwise"), tmp_path).values:
        assert found[0].abs().sum() > 0
    said = "train.sync=ddp: the loss does not depend on parameters of the model (unused.weight, unused.bias); "
    assert all(value.startswith(said) for value in in_world(2, refused, tmp_path).values)
