"""The convolutional network: its shapes, its loss, and shifts that are a function of the draws alone."""

from pathlib import Path

import pytest
import torch
from torch import nn

from src import model_file, models
from src.data.order import DRAWS, draws
from src.data.splits import Spec
from src.errors import UserError
from src.models import Model
from src.run.layout import read_status
from tests.helpers.bare_models import SPEC
from tests.helpers.ranks import ROOT, good_job

SHIFT = 2  # pixels, either way


def convnet(**settings: float) -> Model:
    return models.load(model_file.find("convnet"), {"channels": 4, "dropout": 0.2} | settings)


def pictures(count: int, *shape: int) -> torch.Tensor:
    return torch.randint(1, 256, (count, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("shape", [(28, 28), (1, 28, 28), (3, 9, 14), (4, 4)])
def test_it_takes_pictures_of_any_size(shape: tuple[int, ...]) -> None:
    model = convnet()
    module = model.build(Spec(shape, torch.uint8, 7), 0)
    images, labels = pictures(5, *shape), torch.arange(5)
    assert module(images).shape == (5, 7)
    model.check(module, images, labels)
    chances = model.probabilities(module.eval(), images)
    assert torch.allclose(chances.sum(1), torch.ones(5))
    assert len(list(module.buffers())) == 9, "three of each normalisation"


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.float32, torch.float64])
def test_it_takes_numbers_of_any_type(dtype: torch.dtype) -> None:
    model, spec = convnet(), Spec((8, 8), dtype, 7)
    model.check(model.build(spec, 0), pictures(5, 8, 8).to(dtype), torch.arange(5))


def test_the_loss_is_cross_entropy_of_scaled_pixels() -> None:
    """Measured in evaluation: in training the normalisation undoes any scale."""
    model = convnet(dropout=0)
    module, images, labels = model.build(SPEC, 0).eval(), pictures(16, 28, 28), torch.arange(16) % 10
    plain = nn.Sequential(*module.layers)(images[:, None].float() / 255)  # type: ignore[misc]
    loss, items = model.loss(module, images, labels)
    assert torch.equal(module(images), plain), "to the bit: fresh weights give almost the same loss for any scale"
    assert items == 16
    torch.testing.assert_close(loss / items, nn.CrossEntropyLoss()(plain, labels))


def test_measure_counts_exactly() -> None:
    model = convnet()
    module, images, labels = model.build(SPEC, 0).eval(), pictures(100, 28, 28), torch.arange(100) % 10
    sums = model.measure(module, images, labels)
    guesses = module(images).argmax(1)
    assert int(sums["correct"]) == int((guesses == labels).sum()) == int(sums["confusion"].trace())
    assert sums["confusion"].sum(1).tolist() == [10] * 10


@pytest.mark.parametrize("shape", [(28, 28), (3, 8, 12)])
def test_augment_shifts_each_picture_by_its_own_draws(shape: tuple[int, ...]) -> None:
    """A plain loop that moves one picture after the other gives the same bytes."""
    images, numbers = pictures(200, *shape), draws(3, 1, torch.arange(200))
    found, labels = convnet().augment(images, torch.arange(200), numbers)
    assert labels.tolist() == list(range(200))
    (height, width), seen = shape[-2:], set()
    for image, moved, row in zip(images, found, numbers, strict=True):
        down, right = (int(number * (2 * SHIFT + 1)) - SHIFT for number in row[:2])
        expected = torch.zeros_like(image)
        for y in range(max(0, down), min(height, height + down)):
            for x in range(max(0, right), min(width, width + right)):
                expected[..., y - down, x - right] = image[..., y, x]
        assert torch.equal(moved, expected)
        seen.add((down, right))
    assert len(seen) == (2 * SHIFT + 1) ** 2, "all of them, none further"


def test_augment_is_a_pure_function_of_the_draws() -> None:
    model, images, labels = convnet(), pictures(50, 28, 28), torch.zeros(50)
    numbers, before = draws(0, 0, torch.arange(50)), images.clone()
    first, _ = model.augment(images, labels, numbers)
    torch.rand(7)
    assert torch.equal(first, model.augment(images, labels, numbers)[0])
    assert torch.equal(images, before), "the data set itself is not changed"
    order = torch.randperm(50)
    assert torch.equal(first[order], model.augment(images[order], labels, numbers[order])[0])
    assert not torch.equal(first, model.augment(images, labels, draws(0, 1, torch.arange(50)))[0])
    largest = torch.full((1, DRAWS), 1 - 2**-24)
    assert model.augment(images[:1], labels[:1], largest)[0].shape == (1, 28, 28)
    assert first.dtype == torch.uint8


TEXT, NARROW, NO_CLASSES = (
    Spec((64,), torch.uint8, 0, (64,), torch.uint8),
    Spec((3, 28), torch.uint8, 10),
    Spec((8, 8), torch.uint8, 0),
)


@pytest.mark.parametrize("spec", [TEXT, NARROW, NO_CLASSES, Spec((8, 8), torch.uint8, 1)])
def test_other_data_are_refused_in_one_line(spec: Spec) -> None:
    with pytest.raises(
        UserError, match=r"^convnet\.py: needs pictures of at least 4 x 4 pixels, in two classes or more"
    ):
        convnet().build(spec, 0)


def test_it_trains_on_two_ranks(small: str, tmp_path: Path) -> None:
    settings = (f"data.root={small}", "data.name=idx", "train.epochs=2", "model.channels=2", "optim.lr=0.05")
    job = good_job(2, tmp_path, *settings, "optim.momentum=0.9", "model.name=convnet")
    status = read_status(job.run)
    assert (status["state"], status["world_size"]) == ("finished", 2)
    assert status["accuracy"] > 0.9, job.output


@pytest.mark.slow(seconds=60)
def test_a_short_form_of_its_config_is_already_good(mnist: str, tmp_path: Path) -> None:
    """Three epochs of ten, with the schedule of three."""
    settings = (f"config={ROOT / 'configs' / 'convnet.yaml'}", f"data.root={mnist}", "train.epochs=3")
    job = good_job(2, tmp_path, *settings, "model.name=convnet")
    assert read_status(job.run)["accuracy"] > 0.985, job.output
