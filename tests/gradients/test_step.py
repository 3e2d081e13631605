"""Votes to stop, which reach every rank, and the seed of each step's random numbers."""

import os
import random
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor, nn

from src import config, schema
from src.data.loader import ShardedLoader
from src.gradients import build as gradients
from src.gradients import step as step_room
from src.gradients import votes
from src.world.world import World
from tests.helpers.bare_models import bce
from tests.helpers.gradient_steps import BATCH, CPU, split, steps, tutorial
from tests.helpers.ranks import in_world


@pytest.mark.parametrize(
    "sync",
    [("train.sync=ddp",), ("train.sync=ddp", "train.exchange=backend"), ("train.sync=bitwise",)],
    ids=["ddp", "gloo", "bitwise"],
)
def test_votes_reach_every_rank(sync: tuple[str, ...], tmp_path: Path) -> None:
    def work(world: World) -> list[tuple[bool, bool]]:
        chosen = config.parse([*sync, f"train.global_batch_size={BATCH}"]).train
        number, own = gradients.local_shards(chosen, world)
        batches = ShardedLoader(split(), chosen, own, number, CPU)
        way = gradients.build_gradients(tutorial(), bce, chosen, world)
        totals = (
            way.forward_backward(parts, step, wishes[world.rank].get(step, 0.0))
            for step, parts in enumerate(batches.epoch(0))
        )
        return [(total.should_stop(step), total.should_save(step)) for step, total in enumerate(totals)]

    wishes = {0: {0: votes.SAVE, 1: votes.SAVE}, 1: {1: votes.STOP}, 2: {1: votes.STOP}}
    assert in_world(3, work, tmp_path, *sync).values == [[(False, True), (True, True), (False, False)]] * 3


def test_votes_on_a_gpu_are_read_every_few_steps() -> None:
    """Reading a tensor waits for the GPU, so it is done every GPU_LOOK_STEPS steps."""
    wanted = step_room.StepResult(torch.tensor(0.0), torch.tensor(2.0), torch.tensor(1.0))
    steps = [step for step in range(1, 40) if wanted.should_stop(step)]
    assert steps == [step_room.GPU_LOOK_STEPS, 2 * step_room.GPU_LOOK_STEPS]
    assert not step_room.StepResult(torch.tensor(0.0), torch.tensor(0.0), torch.tensor(1.0)).should_stop(
        step_room.GPU_LOOK_STEPS
    )


def test_random_numbers_are_a_function_of_seed_step_and_shard() -> None:
    def drawn(seed: int, step: int, shard: int) -> list[float]:
        torch.rand(step + 1)  # whatever was drawn before
        step_room.Seed(seed, torch.device("cpu")).set(step, shard)
        return torch.rand(4).tolist()

    assert drawn(0, 5, 3) == drawn(0, 5, 3)
    numbers = [drawn(seed, step, shard) for seed in (0, 1, 2**32, 2**62) for step in range(5) for shard in range(8)]
    assert len({tuple(one) for one in numbers}) == 4 * 5 * 8


def test_on_a_gpu_bitwise_asks_for_algorithms_that_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    gpu = torch.device("cuda", 0)
    step_room.make_repeatable(schema.Train(sync="ddp"), gpu)
    step_room.make_repeatable(schema.Train(sync="bitwise"), CPU)
    assert not asked
    step_room.make_repeatable(schema.Train(sync="bitwise"), gpu)
    assert (asked, os.environ["CUBLAS_WORKSPACE_CONFIG"]) == ([True], ":4096:8")


def test_python_s_and_numpy_s_generators_are_seeded_where_they_are_used() -> None:
    def drawn(others: tuple[str, ...]) -> tuple[float, float]:
        step_room.Seed(1, CPU, others).set(3, 2)
        return random.random(), float(numpy.random.rand())

    assert drawn(("random", "numpy")) == drawn(("random", "numpy"))
    assert drawn(()) != drawn(())


def test_bfloat16_is_autocast_and_the_sum_is_float32() -> None:
    seen = []

    def loss(module: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
        seen.append(module(inputs).dtype)
        return module(inputs).sum(), 1

    module = nn.Linear(3, 2)
    summed, _ = step_room.in_precision(loss, "bfloat16", CPU)(module, torch.ones(2, 3), torch.ones(2))
    assert (seen, summed.dtype) == ([torch.bfloat16], torch.float32)
    summed.backward()  # type: ignore[no-untyped-call]
    assert module.weight.grad is not None
    assert module.weight.grad.dtype == torch.float32
    assert step_room.in_precision(loss, "float32", CPU) is loss


def test_sums_are_divided_once_and_a_batch_without_items_has_no_gradient() -> None:
    for items in (4.0, torch.tensor(4.0)):
        gradients = [torch.full((3,), 2.0), torch.full((2, 2), 8.0)]
        step_room.divide(gradients, items)
        assert [gradient.mean().item() for gradient in gradients] == [0.5, 2.0]
    for nothing in (0.0, torch.tensor(0.0)):
        zeros = [torch.zeros(3)]
        step_room.divide(zeros, nothing)
        assert torch.equal(zeros[0], torch.zeros(3))


def by_hand(module: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, int, dict[str, Tensor]]:
    """The closed form of `bce` of a linear layer; it returns the same tensors every time, as a file may."""
    inputs, one_hot = pixels.flatten(1).float() / 255, torch.eye(10)[labels]
    logits = module(inputs)
    errors = (logits.sigmoid() - one_hot) / 10
    torch.mm(errors.t(), inputs, out=KEPT["weight"])
    torch.sum(errors, 0, out=KEPT["bias"])
    loss = nn.functional.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum") / 10
    return loss, len(labels), {"bias": KEPT["bias"], "weight": KEPT["weight"]}


KEPT = {"weight": torch.empty(10, 784), "bias": torch.empty(10)}


@pytest.mark.parametrize("settings", [(), ("train.micro_batch_size=20",), ("train.sync=bitwise",)])
def test_a_model_s_own_gradients_are_taken_for_autograd_s(settings: tuple[str, ...]) -> None:
    expected, losses, name = steps(tutorial, *settings)(World())
    found, own_losses, own_name = steps(tutorial, *settings, own_gradients=by_hand)(World())
    assert own_name == f"{name}, closed form"
    assert own_losses == pytest.approx(losses, rel=1e-6)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-7)


def test_bitwise_has_the_same_bits_of_them_in_every_world(tmp_path: Path) -> None:
    work = steps(tutorial, "train.sync=bitwise", own_gradients=by_hand)
    (alone,) = in_world(1, work, tmp_path).values
    for found, losses, name in in_world(3, work, tmp_path).values:
        assert (losses, name) == (alone[1], "bitwise, shared memory, closed form")
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, alone[0], strict=True))


def test_where_something_is_around_the_loss_autograd_differentiates_it(tmp_path: Path) -> None:
    def raises(*_: object) -> tuple[Tensor, int, dict[str, Tensor]]:
        raise AssertionError("not asked for")

    for settings in ("train.precision=bfloat16", "train.compile=true"):
        for sync in ("ddp", "bitwise"):
            _, losses, name = steps(tutorial, settings, f"train.sync={sync}", own_gradients=raises)(World())
            assert losses
            assert "closed" not in name
    assert in_world(2, steps(tutorial, own_gradients=raises), tmp_path).values[0][2] == "DDP, shared memory"
