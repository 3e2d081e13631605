"""data.shuffle=blocks: a permutation that reads block by block, and is shuffled all the same."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from src.data.blocks import BLOCK_BYTES, WINDOW, BlockOrder, samples_of


def whole(samples: int, block: int, seed: int = 0, epoch: int = 0, window: int = WINDOW) -> Tensor:
    return BlockOrder(samples, block, seed, epoch, window=window).at(torch.arange(samples))


@given(st.integers(1, 2000), st.integers(1, 300), st.integers(1, 9), st.integers(0, 2**63 - 1), st.integers(0, 99))
def test_it_is_a_permutation(samples: int, block: int, window: int, seed: int, epoch: int) -> None:
    assert torch.equal(whole(samples, block, seed, epoch, window).sort().values, torch.arange(samples))


@given(st.integers(1, 2000), st.integers(1, 300), st.integers(1, 9), st.data())
@settings(max_examples=50)
def test_each_position_is_computed_alone(samples: int, block: int, window: int, data: st.DataObject) -> None:
    positions = torch.tensor(data.draw(st.lists(st.integers(0, samples - 1), min_size=1, max_size=20)))
    asked = BlockOrder(samples, block, 3, 1, window=window).at(positions)
    assert torch.equal(asked, whole(samples, block, 3, 1, window)[positions])


def test_a_window_reads_so_many_blocks_and_mixes_their_samples() -> None:
    samples, block, window = 100_000, 100, 20
    order = whole(samples, block, window=window)
    for start in range(0, samples, block * window):
        read = order[start : start + block * window].sort().values
        runs = 1 + int((read.diff() != 1).sum())
        assert runs <= window + 1, "one more where the samples begin anew"
        together = (order[start : start + block * window].diff().abs() < block).double().mean()
        assert together < 0.15, "two neighbours in the order are of one block once in 20 times"


def test_epochs_and_seeds_are_unrelated() -> None:
    """Neither the places nor the neighbours of a sample repeat: blocks begin elsewhere in each epoch."""
    orders = [whole(20_000, 100, seed, epoch, 10) for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))]
    related = torch.corrcoef(torch.stack([*orders, torch.arange(20_000)]).double())
    assert float((related - torch.eye(5)).abs().max()) < 0.25, "200 blocks are 200 draws"
    begins = {BlockOrder(20_000, 100, 0, epoch)._begin for epoch in range(20)}
    assert len(begins) == 20


@pytest.mark.parametrize(("sample", "block"), [(784, 1337), (BLOCK_BYTES, 1), (BLOCK_BYTES * 9, 1), (0, BLOCK_BYTES)])
def test_a_block_is_a_megabyte(sample: int, block: int) -> None:
    assert samples_of(sample) == block
