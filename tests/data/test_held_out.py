"""What is held out is the rest of what is trained on, and drawn by the seed alone."""

import pytest
import torch

from src.data.held_out import hold_out
from src.data.splits import Split
from src.errors import UserError


def split(inputs: torch.Tensor, targets: torch.Tensor) -> Split:
    return Split(inputs, targets)


@pytest.mark.parametrize(("share", "count"), [(0.1, 10), (0.004, 0), (7, 7), (1, 1), (102, 102), (0.5, 52)])
def test_what_is_held_out_is_the_rest_of_what_is_trained_on(share: float, count: int) -> None:
    numbers = torch.arange(103)
    whole = split(numbers[:, None].byte(), numbers)
    if not count:
        with pytest.raises(UserError, match=r"data\.validation=0\.004: would hold out 0 of the 103 training samples; "):
            hold_out(whole, share, 0)
        return
    rest, held = hold_out(whole, share, 3)
    parts = [part.range(0, 103)[1] for part in (rest, held)]
    assert (len(rest), len(held)) == (103 - count, count) == (len(parts[0]), len(parts[1]))
    assert torch.cat(parts).sort().values.equal(numbers), "each sample is in one of them"
    assert parts[0].equal(parts[0].sort().values), "in the order of the files"
    some = torch.tensor([0, len(rest) - 1, 0])
    assert rest.take(some)[1].equal(parts[0][some])
    assert rest.first(1, torch.device("cpu"))[1].equal(parts[0][:1])
    for part, targets in zip((rest, held), parts, strict=True):
        assert part.range(2, 5)[1].equal(targets[2:5])
        assert part.take(torch.arange(len(part)))[0].flatten().long().equal(targets), "inputs and targets fit"
        assert len(part.to(torch.device("meta"))) == len(part)


def test_the_seed_alone_draws_what_is_held_out() -> None:
    whole = split(torch.zeros(1000, 1), torch.arange(1000))
    first, same, other = (hold_out(whole, 100, seed)[1].range(0, 100)[1] for seed in (0, 0, 1))
    assert first.equal(same)
    assert len({*first.tolist()} & {*other.tolist()}) < 30
    assert not first.equal(torch.arange(100))


@pytest.mark.parametrize(("share", "reason"), [(103, "would hold out 103 of the 103"), (1.5, "or a whole number")])
def test_a_share_that_cannot_be_held_out(share: float, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        hold_out(split(torch.zeros(103, 1), torch.arange(103)), share, 0)
