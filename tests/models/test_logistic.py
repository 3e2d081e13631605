"""The loss equals the tutorial's, and the seed decides the weights."""

import torch
from torch import nn

from src.models import logistic


def test_the_loss_from_logits_is_sigmoid_and_bce() -> None:
    images, labels = torch.rand(64, logistic.PIXELS), torch.randint(0, 10, (64,))
    ours, literal = logistic.build(0), nn.Sequential(logistic.build(0), nn.Sigmoid())
    ours_loss = logistic.loss_function("bce")(ours(images), logistic.targets(labels, "bce")) / 64
    literal_loss = nn.BCELoss()(literal(images), logistic.targets(labels, "bce"))
    torch.testing.assert_close(ours_loss, literal_loss, rtol=1e-6, atol=1e-7)
    ours_loss.backward()  # type: ignore[no-untyped-call]
    literal_loss.backward()
    for mine, theirs in zip(ours.parameters(), literal.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-8)


def test_cross_entropy_is_torch_s() -> None:
    logits, labels = torch.randn(32, 10), torch.randint(0, 10, (32,))
    summed = logistic.loss_function("cross_entropy")(logits, logistic.targets(labels, "cross_entropy"))
    torch.testing.assert_close(summed / 32, nn.CrossEntropyLoss()(logits, labels))


def test_the_seed_alone_decides_the_weights() -> None:
    torch.rand(3)
    first = logistic.build(3).state_dict()
    torch.rand(5)
    assert all(torch.equal(first[name], value) for name, value in logistic.build(3).state_dict().items())
    assert not torch.equal(first["linear.weight"], logistic.build(4).state_dict()["linear.weight"])
