"""Buffers that every share of a batch changes: means of floats, the first share's other types, constants kept."""

import pytest
import torch
from torch import Tensor, nn

from src.errors import JobFailed
from src.gradients.buffers import Buffers


class Counts(nn.Module):
    """Buffers of many types; `forward` changes some in place and gives one a new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("replaced", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("low", torch.full((2,), 1.0, dtype=torch.bfloat16))
        self.register_buffer("mask", torch.triu(torch.full((3, 3), -torch.inf), 1), persistent=False)
        self.register_buffer("nan", torch.tensor([torch.nan, 0.0]))
        self.register_buffer("batches", torch.tensor(0))
        self.register_buffer("seen", torch.zeros(4, dtype=torch.bool))
        self.register_buffer("nothing", None)
        self.alias = nn.Module()
        self.alias.register_buffer("mean", self.mean)

    mean: Tensor
    batches: Tensor
    seen: Tensor
    replaced: Tensor

    def forward(self, value: float) -> None:
        self.mean += torch.tensor([value, 0.0, -value])
        self.replaced = self.replaced + value
        self.batches += int(value)
        self.seen[int(value)] = True


def shares(module: Counts, values: list[float], items: list[int]) -> None:
    """A step whose shares are computed one after the other."""
    buffers = Buffers(module)
    buffers.begin()
    total = torch.zeros(buffers.length, dtype=buffers.dtype)
    for number, (value, count) in enumerate(zip(values, items, strict=True)):
        buffers.restore()
        module(value)
        total += buffers.changes(count, number == 0)
    total[: buffers.floats] /= sum(items)
    buffers.agree(total)


def test_floats_become_the_mean_by_items_and_others_the_first_share_s() -> None:
    module = Counts()
    shares(module, [1.0, 3.0], [3, 1])
    assert module.mean.tolist() == [1.5, 0.0, -1.5]
    assert module.replaced.tolist() == [1.5, 1.5]
    assert module.replaced.dtype == torch.float64
    assert module.batches.item() == 1
    assert module.seen.tolist() == [False, True, False, False]
    assert module.alias.mean is module.mean


def test_what_no_share_changed_stays_to_the_bit() -> None:
    module = Counts()
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    shares(module, [1.0, 2.0, 3.0], [1, 1, 5])
    for name in ("mask", "nan", "low"):
        after = dict(module.named_buffers())[name]
        assert torch.equal(after.view(torch.uint8), before[name].view(torch.uint8)), name


def test_large_whole_numbers_survive() -> None:
    module = Counts()
    module.batches.fill_(-(2**62) + 12345)
    shares(module, [1.0, 2.0], [1, 1])
    assert module.batches.item() == -(2**62) + 12346


def test_the_running_statistics_are_those_of_a_process_that_normalises_shard_by_shard() -> None:
    """BatchNorm's update is linear in the batch's statistics: the mean of the updates is the update by the mean."""
    torch.manual_seed(0)
    norm, batch = nn.BatchNorm1d(5), torch.randn(12, 5)
    norm.running_mean = torch.randn(5)
    expected_mean, expected_var = norm.running_mean.clone(), norm.running_var.clone()  # type: ignore[union-attr]
    buffers, parts = Buffers(norm), torch.split(batch, [3, 4, 5])
    buffers.begin()
    total = torch.zeros(buffers.length)
    for number, part in enumerate(parts):
        buffers.restore()
        norm(part)
        total += buffers.changes(len(part), number == 0)
    total[: buffers.floats] /= len(batch)
    buffers.agree(total)
    weights = torch.tensor([len(part) / len(batch) for part in parts])[:, None]
    means = (torch.stack([part.mean(0) for part in parts]) * weights).sum(0)
    variances = (torch.stack([part.var(0) for part in parts]) * weights).sum(0)
    torch.testing.assert_close(norm.running_mean, 0.9 * expected_mean + 0.1 * means)
    torch.testing.assert_close(norm.running_var, 0.9 * expected_var + 0.1 * variances)
    assert norm.num_batches_tracked.item() == 1  # type: ignore[union-attr]


def test_a_buffer_of_another_shape_is_refused() -> None:
    module = nn.Module()
    module.register_buffer("cache", torch.zeros(3))
    buffers = Buffers(module)
    buffers.begin()
    module.cache = torch.zeros(4)
    with pytest.raises(JobFailed, match=r"the model's buffer cache was \(3,\) and became \(4,\)"):
        buffers.changes(1.0, True)


def test_a_module_without_buffers_has_nothing_to_send() -> None:
    assert Buffers(nn.Linear(3, 3)).length == 0
