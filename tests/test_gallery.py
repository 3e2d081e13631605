"""What a model has learned, as pictures and lists."""

import pytest
import torch
from torch import nn

from src import gallery
from src.data.dataset import Split
from src.models import logistic


class Normed(nn.Module):
    """Has one matrix, and is not linear."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(logistic.PIXELS), nn.Linear(logistic.PIXELS, logistic.CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(self.norm(images))
        return logits


def test_templates_are_the_weights_of_a_linear_model() -> None:
    module = logistic.build(0)
    found = gallery.templates(module)
    assert found.shape == (10, 28, 28)
    assert torch.equal(found.view(10, -1), module.state_dict()["linear.weight"])
    two_layers = nn.Sequential(nn.Linear(784, 16), nn.Linear(16, 10))
    assert gallery.templates(two_layers).shape == (0, 28, 28)


def test_a_linear_model_is_told_from_one_that_is_not() -> None:
    module = logistic.build(0)
    weight, bias = gallery.linear(module) or pytest.fail("it is linear")
    assert torch.equal(weight, module.state_dict()["linear.weight"])
    assert torch.equal(bias, module.state_dict()["linear.bias"])
    assert gallery.linear(Normed()) is None
    assert gallery.linear(nn.Sequential(nn.Linear(784, 10), nn.ReLU())) is None
    _, zero = gallery.linear(nn.Linear(784, 10, bias=False)) or pytest.fail("it is linear")
    assert not zero.any()


def test_grey_has_one_scale_with_zero_in_the_middle() -> None:
    pictures = torch.tensor([[[0.0, 2.0]], [[-1.0, 1.0]]])
    assert gallery.grey(pictures).tolist() == [[[128, 255]], [[64, 192]]]
    assert gallery.grey(torch.zeros(1, 1, 2)).tolist() == [[[128, 128]]]


def test_probabilities_are_those_of_the_loss() -> None:
    logits = torch.tensor([[0.0, 1.0], [5.0, 5.0]])
    assert torch.equal(gallery.probabilities(logits, "bce"), logits.sigmoid())
    assert torch.allclose(gallery.probabilities(logits, "cross_entropy").sum(1), torch.ones(2))


@pytest.mark.parametrize("at_once", [2, 1000])
def test_the_most_wrong_come_first(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(nn.Module):
        """Each sample's first two pixels say what is guessed, and how surely."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            guess, sureness = (images[:, 0] * 255).round().long(), images[:, 1] * 255
            return nn.functional.one_hot(guess, 10) * sureness[:, None]

    monkeypatch.setattr(gallery, "SAMPLES_AT_ONCE", at_once)
    images = torch.zeros(5, 784, dtype=torch.uint8)
    images[:, :2] = torch.tensor([[1, 2], [1, 9], [4, 5], [7, 1], [8, 5]])
    labels = torch.tensor([0, 1, 3, 0, 3])  # the second one is right
    found = gallery.most_wrong(Told(), Split(images, labels), "cross_entropy", 3)
    assert [(wrong.index, wrong.truth, wrong.guess) for wrong in found] == [(2, 3, 4), (4, 3, 8), (0, 0, 1)]
    assert found[0].probability == pytest.approx(float(torch.tensor([5.0] + [0.0] * 9).softmax(0)[0]))
