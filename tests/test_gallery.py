"""What a model has learned, as pictures and lists, and which commands fit it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src import config, gallery, models
from src.data.splits import Spec, Split
from src.models import Model
from tests.helpers import strangers

MNIST = Spec((28, 28), torch.uint8, 10)


def logistic(loss: str = "cross_entropy") -> Model:
    settings = config.parse([f"model.loss={loss}"]).model
    return models.load(config.model_path(settings), settings.settings)


class Like(nn.Module):
    """Any function of inputs, with what `logistic.probabilities` looks at."""

    def __init__(self, body: nn.Module, loss: str = "cross_entropy", divisor: float = 255) -> None:
        super().__init__()
        self.body, self.loss, self.divisor = body, loss, divisor

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.body(inputs.flatten(1).float() / self.divisor)
        return logits


@pytest.mark.parametrize(("loss", "activation"), [("bce", "sigmoid"), ("cross_entropy", "softmax")])
def test_a_linear_model_is_known_by_what_it_computes(loss: str, activation: str) -> None:
    model = logistic(loss)
    module = model.build(MNIST, 0)
    fit = gallery.linear(model, module, MNIST) or pytest.fail("it is linear")
    assert torch.equal(fit.weight, module.state_dict()["linear.weight"])
    assert torch.equal(fit.bias, module.state_dict()["linear.bias"])
    assert (fit.divisor, fit.activation) == (255, activation)
    assert torch.equal(gallery.templates(fit, MNIST).view(10, -1), fit.weight)
    assert module.training, "it is left in the mode that it was in"


def test_linear_models_of_other_sizes_and_scales() -> None:
    small = Spec((6, 5), torch.uint8, 3)
    for divisor, bias in ((1.0, True), (255.0, False), (127.5, True)):
        module = Like(nn.Linear(30, 3, bias=bias), divisor=divisor)
        fit = gallery.linear(logistic(), module, small) or pytest.fail("it is linear")
        assert fit.divisor == pytest.approx(divisor, rel=1e-3)
        assert fit.bias.any() == bias


@pytest.mark.parametrize(
    ("body", "spec"),
    [
        (nn.Sequential(nn.LayerNorm(784), nn.Linear(784, 10)), MNIST),
        (nn.Sequential(nn.Linear(784, 10), nn.ReLU()), MNIST),
        (nn.Sequential(nn.Linear(784, 16), nn.Linear(16, 10)), MNIST),
        (nn.Sequential(nn.Linear(784, 10), nn.BatchNorm1d(10)), Spec((1, 28, 28), torch.uint8, 10)),
        (nn.Linear(784, 10), Spec((784,), torch.uint8, 10)),
        (nn.Linear(784, 10), Spec((28, 28), torch.float32, 10)),
        (nn.Linear(784, 10), Spec((28, 28), torch.uint8, 0)),
        (nn.Linear(784, 10), Spec((28, 28), torch.uint8, 7)),
    ],
)
def test_other_models_and_other_data_have_no_templates(body: nn.Module, spec: Spec) -> None:
    assert gallery.linear(logistic(), Like(body), spec) is None


def test_looking_changes_no_buffer() -> None:
    """BatchNorm in training mode would count every look as a batch."""
    module = Like(nn.Sequential(nn.BatchNorm1d(784), nn.Linear(784, 10)))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    split = Split(torch.zeros(5, 28, 28, dtype=torch.uint8), torch.arange(5))
    gallery.most_wrong(logistic(), module, split, 3)
    gallery.linear(logistic(), module, MNIST)
    assert gallery.classifies(logistic(), module, MNIST)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert module.training


def test_grey_has_one_scale_with_zero_in_the_middle() -> None:
    pictures = torch.tensor([[[0.0, 2.0]], [[-1.0, 1.0]]])
    assert gallery.grey(pictures).tolist() == [[[128, 255]], [[64, 192]]]
    assert gallery.grey(torch.zeros(1, 1, 2)).tolist() == [[[128, 128]]]


@pytest.mark.parametrize("at_once", [2, 1000])
def test_the_most_wrong_come_first(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Prescribed(nn.Module):
        """Each sample's first two pixels are its class and the logit of that."""

        loss = "cross_entropy"

        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.one_hot(images[:, 0].long(), 10) * images[:, 1:2].float()

    monkeypatch.setattr(gallery, "SAMPLES_AT_ONCE", at_once)
    images = torch.zeros(5, 784, dtype=torch.uint8)
    images[:, :2] = torch.tensor([[1, 2], [1, 9], [4, 5], [7, 1], [8, 5]])
    labels = torch.tensor([0, 1, 3, 0, 3])  # the second one is right
    rows = gallery.most_wrong(logistic(), Prescribed(), Split(images, labels), 3)
    assert [(wrong.index, wrong.truth, wrong.guess) for wrong in rows] == [(2, 3, 4), (4, 3, 8), (0, 0, 1)]
    assert rows[0].probability == pytest.approx(float(torch.tensor([5.0] + [0.0] * 9).softmax(0)[0]))


SPECS = {
    "colours": Spec((3, 12, 12), torch.uint8, 4),
    "tokens": Spec((8,), torch.uint8, 0, (8,), torch.uint8),
    "outputs": Spec((3,), torch.float32, 0, (2,), torch.float32),
}


@pytest.mark.parametrize("name", strangers.NAMES)
def test_the_next_commands_are_those_that_work(name: str, tmp_path: Path) -> None:
    model = models.load(strangers.MODELS / f"{name}.py", {} if name != "colours" else {"channels": 4})
    path = tmp_path / "a run"
    commands = gallery.next_commands(path, model, model.build(SPECS[name], 0), SPECS[name])
    first = "predict" if name == "colours" else "evaluate"
    assert commands[0] == f"python -m src.{first} '{path}'" + (" image.png" if name == "colours" else "")
    assert commands[1] == f"python -m src.report '{path}'"


def test_why_a_model_cannot_predict() -> None:
    model, texts = logistic(), Spec((784,), torch.uint8, 10)
    module: Any = Like(nn.Linear(784, 10))
    assert gallery.why_not_predicted(model, module, MNIST) == ""
    assert "takes inputs (784,) of uint8, which are no pictures" in gallery.why_not_predicted(model, module, texts)
    nine = Like(nn.Linear(784, 9))
    assert "gives no probability for each class" in gallery.why_not_predicted(model, nine, MNIST)


class Asserting(Like):
    """Its forward takes no zeros, and says so in its own way."""

    def forward(self, inputs: Tensor) -> Tensor:
        assert inputs.any()
        return super().forward(inputs)


def test_whatever_a_model_raises_on_a_trial_it_is_one_that_does_not_fit(tmp_path: Path) -> None:
    module = Asserting(nn.Linear(784, 10))
    assert gallery.linear(logistic(), module, MNIST) is None
    assert gallery.next_commands(tmp_path, logistic(), module, MNIST)[0] == f"python -m src.evaluate {tmp_path}"
