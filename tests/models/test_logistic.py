"""The loss equals the tutorial's, and the seed decides the weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from src.data.splits import Spec
from src.errors import UserError
from tests.helpers.bare_models import SPEC, logistic


def test_the_loss_from_logits_is_sigmoid_and_bce() -> None:
    model = logistic()
    images, labels = torch.randint(0, 256, (64, 28, 28), dtype=torch.uint8), torch.randint(0, 10, (64,))
    ours, literal = model.build(SPEC, 0), nn.Sequential(model.build(SPEC, 0), nn.Sigmoid())
    loss, items = model.loss(ours, images, labels)
    assert items == 64
    literal_loss = nn.BCELoss()(literal(images), functional.one_hot(labels, 10).float())
    torch.testing.assert_close(loss / items, literal_loss, rtol=1e-6, atol=1e-7)
    (loss / items).backward()  # type: ignore[no-untyped-call]
    literal_loss.backward()
    for mine, theirs in zip(ours.parameters(), literal.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-5, atol=1e-8)


def test_cross_entropy_is_torchs() -> None:
    model = logistic("cross_entropy")
    images, labels = torch.randint(0, 256, (32, 28, 28), dtype=torch.uint8), torch.randint(0, 10, (32,))
    module = model.build(SPEC, 0)
    loss, _ = model.loss(module, images, labels)
    torch.testing.assert_close(loss / 32, nn.CrossEntropyLoss()(module(images), labels))


@pytest.mark.parametrize("samples", [1, 7, 64])
def test_the_closed_form_is_autograd_s(samples: int) -> None:
    """To the bit for the default loss: the same operations in the same order."""
    images, labels = torch.randint(0, 256, (samples, 28, 28), dtype=torch.uint8), torch.randint(0, 10, (samples,))
    for loss in ("bce", "cross_entropy"):
        model = logistic(loss)
        module = model.build(SPEC, 0)
        summed, items = model.loss(module, images, labels)
        expected = torch.autograd.grad(summed, list(module.parameters()))
        with torch.no_grad():
            found, number, by_name = model.gradients(module, images, labels)
        assert torch.equal(found, summed.detach())
        assert number == items == samples
        assert list(by_name) == [name for name, _ in module.named_parameters()]
        for mine, theirs in zip(by_name.values(), expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
            assert loss != "bce" or torch.equal(mine, theirs)


def test_measure_counts_exactly() -> None:
    model = logistic()
    images, labels = torch.randint(0, 256, (100, 28, 28), dtype=torch.uint8), torch.randint(0, 10, (100,))
    module = model.build(SPEC, 0)
    sums = model.measure(module, images, labels)
    guesses = module(images).argmax(1)
    assert int(sums["correct"]) == int((guesses == labels).sum()) == int(sums["confusion"].trace())
    assert sums["confusion"].sum(1).tolist() == labels.bincount(minlength=10).tolist()


def test_probabilities_are_the_loss_s_own() -> None:
    images = torch.randint(0, 256, (5, 28, 28), dtype=torch.uint8)
    for loss, activation in (("bce", torch.sigmoid), ("cross_entropy", lambda logits: logits.softmax(1))):
        model = logistic(loss)
        module = model.build(SPEC, 0)
        assert torch.equal(model.probabilities(module, images), activation(module(images)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_inputs_of_any_type_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    model, inputs = logistic(), torch.ones(6, *shape, dtype=dtype)
    model.check(model.build(Spec(shape, dtype, 3), 0), inputs, torch.arange(6) % 3)


def test_one_class_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"^logistic\.py: tells two classes or more apart; these labels are all the same"
    ):
        logistic().build(Spec((28, 28), torch.uint8, 1), 0)


def test_the_seed_alone_decides_the_weights() -> None:
    model = logistic()
    torch.rand(3)
    first = model.build(SPEC, 3).state_dict()
    torch.rand(5)
    assert all(torch.equal(first[name], value) for name, value in model.build(SPEC, 3).state_dict().items())
    assert not torch.equal(first["linear.weight"], model.build(SPEC, 4).state_dict()["linear.weight"])
