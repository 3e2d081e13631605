"""On any number of ranks, the gradient is that of the global batch."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src import config, schema
from src.data.loader import ShardedLoader
from src.errors import UserError
from src.gradients import build as gradients
from src.world.world import World
from tests.helpers.bare_models import bce
from tests.helpers.gradient_steps import CPU, STEPS, big_batch, split, steps, tutorial, wide
from tests.helpers.ranks import in_world, quiet_threads


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


def test_the_name_of_each_exchange(tmp_path: Path) -> None:
    names = {}
    for settings in ("train.sync=ddp", "train.exchange=backend", "train.sync=bitwise"):
        names[settings] = in_world(2, steps(tutorial, settings), tmp_path).values[0][2]
    assert names == {
        "train.sync=ddp": "DDP, shared memory",
        "train.exchange=backend": "DDP, gloo",
        "train.sync=bitwise": "bitwise, shared memory",
    }


def test_more_ranks_than_shards_are_refused() -> None:
    with pytest.raises(UserError, match=r"train.shards=4: 5 ranks cannot share them; start at most 4"):
        gradients.local_shards(schema.Train(sync="bitwise", shards=4), World(size=5))


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


@pytest.mark.parametrize("sync", ["ddp", "bitwise"])
def test_sparse_gradients_are_refused(sync: str) -> None:
    module = nn.Sequential(nn.Embedding(3, 3, sparse=True), nn.Linear(3, 3))
    with pytest.raises(UserError, match=r"model: 0 has sparse gradients, which are not summed here; give sparse=False"):
        gradients.build_gradients(module, bce, schema.Train(sync=sync), World())


@pytest.mark.parametrize("sync", ["ddp", "bitwise"])
def test_complex_parameters_are_refused(sync: str) -> None:
    module = nn.Linear(3, 3, dtype=torch.complex64)
    with pytest.raises(UserError, match=r"model: the parameter weight is complex.*view_as_complex in forward"):
        gradients.build_gradients(module, bce, schema.Train(sync=sync), World())
    assert gradients.build_gradients(
        nn.ModuleList([tutorial(), module.requires_grad_(False)]), bce, schema.Train(), World()
    )


class Followed(nn.Module):
    """A frozen copy of the student, which follows it and the data in every forward pass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.student, self.teacher = nn.Linear(784, 10), nn.Linear(784, 10).requires_grad_(False)

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            self.teacher.weight.mul_(0.9).add_(self.student.weight, alpha=0.1).add_(inputs.mean(0), alpha=0.1)
        return self.student(inputs) - self.teacher(inputs)  # type: ignore[no-any-return]


def teachers(*settings: str) -> Callable[[World], tuple[Tensor, Tensor]]:
    """Work for a rank: the last gradient and the teacher after a few steps."""

    def work(world: World) -> tuple[Tensor, Tensor]:
        gradient = torch.zeros(())
        chosen = config.parse(["train.global_batch_size=50", *settings]).train
        module, (shards, own) = Followed(), gradients.local_shards(chosen, world)
        way = gradients.build_gradients(module, bce, chosen, world, updated=["teacher.weight"])
        for step, parts in enumerate(ShardedLoader(split(), chosen, own, shards, CPU).epoch(0)):
            way.forward_backward(parts, step, False)
            assert module.student.weight.grad is not None
            gradient = module.student.weight.grad.clone()
            module.student.weight.data -= 0.1 * gradient
        return gradient, module.teacher.weight.clone()

    return work


@pytest.mark.parametrize("settings", [("train.sync=bitwise",), ("train.sync=bitwise", "train.exchange=backend")])
def test_a_teacher_that_follows_the_student_has_the_same_bits_in_every_world(
    settings: tuple[str, ...], tmp_path: Path
) -> None:
    ((gradient, teacher),) = in_world(1, teachers(*settings), tmp_path).values
    for world_size in (2, 3):
        for found in in_world(world_size, teachers(*settings), tmp_path).values:
            assert torch.equal(found[0], gradient)
            assert torch.equal(found[1], teacher)


def test_the_ranks_of_ddp_have_one_teacher(tmp_path: Path) -> None:
    first, *others = in_world(3, teachers(), tmp_path).values
    assert not torch.equal(first[1], Followed().teacher.weight)
    for found in others:
        assert torch.equal(found[1], first[1])
