"""The gradient of any loss: items that are not samples, parameters of any type, every model of the tree."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src import config, models
from src.data.loader import MicroBatch, ShardedLoader
from src.data.splits import Spec, Split
from src.gradients import build as gradients
from src.gradients.step import Loss
from src.world.world import World
from tests.helpers.ranks import in_world, quiet_threads

CPU = torch.device("cpu")
BATCH, SAMPLES = 24, 53
Made = tuple[nn.Module, Loss, Split]
WAYS = [
    (1, "ddp", ()),
    (3, "ddp", ()),
    (8, "ddp", ()),  # the last batch has 5 samples: three ranks have none
    (8, "ddp", ("train.exchange=backend",)),
    (2, "ddp", ("train.micro_batch_size=5",)),
    (1, "ddp", ("train.micro_batch_size=7",)),
    (2, "ddp", ("train.exchange=backend", "train.micro_batch_size=4")),
    (1, "bitwise", ("train.shards=5",)),
    (3, "bitwise", ()),
]


def of_ranks(make: Callable[[], Made], ranks: int, folder: Path, *settings: str) -> list[Any]:
    """For each rank: for each step its gradients by name, and (loss, items)."""

    def work(world: World) -> list[tuple[dict[str, Tensor], float, float]]:
        module, loss, split = make()
        chosen = config.parse([f"train.global_batch_size={BATCH}", *settings]).train
        shards, own = gradients.local_shards(chosen, world)
        stand_in = MicroBatch(split.inputs[:2], split.targets[:2])
        way = gradients.build_gradients(module, loss, chosen, world, stand_in)
        found = []
        for step, parts in enumerate(ShardedLoader(split, chosen, own, shards, CPU).epoch(0)):
            result = way.forward_backward(parts, step, False)
            named = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
            found.append((named, float(result.loss), float(result.items)))
        return found

    return in_world(ranks, work, folder).values


def of_one_process(make: Callable[[], Made], shards: int) -> list[Any]:
    """The same by plain torch: each shard alone, their sums divided by the items of all."""
    module, loss, split = make()
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0))
    found = []
    for start in range(0, SAMPLES, BATCH):
        positions = range(start, min(start + BATCH, SAMPLES))
        module.zero_grad()
        total, items = 0.0, 0.0
        before = {name: buffer.clone() for name, buffer in module.named_buffers()}
        for shard in range(shards):
            if chosen := [position for position in positions if position % shards == shard]:
                module.load_state_dict(before, strict=False)
                summed, count = loss(module, split.inputs[order[chosen]], split.targets[order[chosen]])
                summed.backward()  # type: ignore[no-untyped-call]
                total, items = total + summed.item(), items + float(count)
        named = {name: p.grad / items for name, p in module.named_parameters() if p.grad is not None}
        found.append((named, total, items))
    return found


def assert_close(found: list[Any], expected: list[Any]) -> None:
    for (mine, loss, items), (theirs, their_loss, their_items) in zip(found, expected, strict=True):
        assert items == their_items
        assert loss == pytest.approx(their_loss, rel=1e-5)
        for name, gradient in theirs.items():
            torch.testing.assert_close(mine[name], gradient, rtol=1e-5, atol=1e-6, msg=name)


def ragged() -> Made:
    """Tokens with padding: a row has 1 to 9 of them."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 16))
    tokens = torch.randint(1, 16, (SAMPLES, 9), generator=torch.Generator().manual_seed(1))
    lengths = torch.randint(1, 10, (SAMPLES, 1), generator=torch.Generator().manual_seed(2))
    targets = torch.where(torch.arange(9) < lengths, tokens, 0)

    def loss(net: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = net(inputs).flatten(0, 1)
        summed = nn.functional.cross_entropy(logits, targets.flatten(), ignore_index=0, reduction="sum")
        return summed, (targets != 0).sum()

    return module, loss, Split(tokens, targets)


@pytest.mark.parametrize(("ranks", "sync", "settings"), WAYS)
def test_ragged_items(ranks: int, sync: str, settings: tuple[str, ...], tmp_path: Path) -> None:
    with quiet_threads():
        expected = of_one_process(ragged, 1)
    for found in of_ranks(ragged, ranks, tmp_path, f"train.sync={sync}", *settings):
        assert_close(found, expected)


def of_several_types() -> Made:
    """float64 behind bfloat16 behind float32, and a number without dimensions."""
    torch.manual_seed(0)
    module = nn.ModuleDict({"one": nn.Linear(4, 8), "two": nn.Linear(8, 8), "three": nn.Linear(8, 2)})
    module["two"].to(torch.bfloat16)
    module["three"].to(torch.float64)
    module.register_parameter("scale", nn.Parameter(torch.tensor(2.0)))

    def loss(net: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
        assert isinstance(net, nn.ModuleDict)
        hidden = net["two"](net["one"](inputs).to(torch.bfloat16))
        outputs = net["three"](hidden.double() * net.scale)
        return (outputs - targets[:, None]).square().sum(), len(targets)

    data = torch.randn(SAMPLES, 4, generator=torch.Generator().manual_seed(3))
    return module, loss, Split(data, data.sum(1))


@pytest.mark.parametrize(("ranks", "sync", "settings"), WAYS)
def test_parameters_of_several_types(ranks: int, sync: str, settings: tuple[str, ...], tmp_path: Path) -> None:
    with quiet_threads():
        expected = of_one_process(of_several_types, 1)
    for found in of_ranks(of_several_types, ranks, tmp_path, f"train.sync={sync}", *settings):
        for (mine, *_), (theirs, *_) in zip(found, expected, strict=True):
            for name, gradient in theirs.items():
                assert mine[name].dtype == gradient.dtype
                close = 0.03 if gradient.dtype == torch.bfloat16 or name.startswith("one") else 1e-2
                torch.testing.assert_close(mine[name].double(), gradient.double(), rtol=close, atol=close, msg=name)


def of_the_tree(name: str) -> Callable[[], Made]:
    def make() -> Made:
        model = f"model.name={name}"
        settings = [model, "model.dropout=0"] if name != "logistic" else [model]
        parsed = config.parse(settings)
        loaded = models.load(config.model_path(parsed.model), parsed.model.settings)
        generator = torch.Generator().manual_seed(4)
        if name == "transformer":
            inputs = torch.randint(32, 60, (SAMPLES, 16), generator=generator, dtype=torch.uint8)
            spec, targets = Spec((16,), torch.uint8, 0, (16,), torch.uint8), inputs.roll(1, 1)
        else:
            inputs = torch.randint(0, 256, (SAMPLES, 28, 28), generator=generator, dtype=torch.uint8)
            spec, targets = Spec((28, 28), torch.uint8, 10), torch.randint(0, 10, (SAMPLES,), generator=generator)
        return loaded.build(spec, 0), loaded.loss, Split(inputs, targets)

    return make


@pytest.mark.parametrize("name", ["logistic", "convnet", "transformer"])
@pytest.mark.parametrize(("ranks", "sync"), [(3, "bitwise"), (2, "ddp")])
def test_each_model_of_the_tree_against_one_process(name: str, ranks: int, sync: str, tmp_path: Path) -> None:
    """The first step's, each share normalised alone; the buffers of later ones are tested in test_buffers.py."""
    make = of_the_tree(name)
    with quiet_threads():
        expected = of_one_process(make, 4 if sync == "bitwise" else ranks)
    for found in of_ranks(make, ranks, tmp_path, f"train.sync={sync}", "train.shards=4"):
        assert_close(found[:1], expected[:1])
