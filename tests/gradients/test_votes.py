"""Votes: both wishes are read from one sum, also from a sum in float32 and over thousands of shards."""

import torch

from src.gradients import votes


def test_one_sum_holds_both_wishes() -> None:
    for stopping in (0, 1, 2, 1000):
        for saving in (0, 1, 8, 4096):
            total = torch.tensor([votes.STOP] * stopping + [votes.SAVE] * saving, dtype=torch.float32).sum()
            assert (votes.stops(float(total)), votes.saves(float(total))) == (stopping > 0, saving > 0)
