"""The digit in a photograph is found and read, whatever the pen, the place and the light; what is doubtful is said."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from src.predict import classify, picture
from src.run import trained
from src.run.trained import Trained
from tests.helpers.photographs import SCENES, Floats, Scene, photograph

EACH = 2  # photographs of each digit in each scene, for the slow test


@pytest.fixture
def run(best: Path) -> Trained:
    return trained.load(best)


def samples(run: Trained, each: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `each` test images of every digit, and their labels."""
    test = trained.test_of(run).test
    rows = torch.cat([(test.targets[:] == digit).nonzero().flatten()[:each] for digit in range(10)])
    return test.inputs[rows], test.targets[rows]


def right(run: Trained, pixels: torch.Tensor, labels: torch.Tensor) -> int:
    with torch.no_grad():
        return int((run.module(pixels).argmax(1) == labels).sum())


def digits(images: torch.Tensor) -> list[Floats]:
    return [image.numpy().astype(np.float32) for image in images]


@pytest.mark.parametrize(
    "scene",
    ["3 pixels on 2000 x 2000", "small", "a lamp", "a shadow", "chalk", "a fine pen", "dim", "squared, aslant"],
)
def test_a_photograph_is_read_as_the_clean_digit_is(scene: str, run: Trained) -> None:
    images, labels = samples(run, 1)
    found = [picture.read("x", photograph([digit], SCENES[scene], at)) for at, digit in enumerate(digits(images))]
    assert {prepared.doubt for prepared in found} == {""}
    is_ruled = {"without the lines of the paper" in prepared.description for prepared in found}
    assert is_ruled == {SCENES[scene].lined > 0}
    assert right(run, torch.stack([one.pixels for one in found]), labels) >= 0.8 * right(run, images, labels)


@pytest.mark.slow(seconds=120)
def test_most_photographs_are_read_as_the_clean_digits_are(run: Trained) -> None:
    images, labels = samples(run, EACH)
    clean, count = right(run, images, labels), 0
    for name, scene in SCENES.items():
        files = [photograph([digit], scene, at) for at, digit in enumerate(digits(images))]
        pixels = torch.stack([picture.read("x", file).pixels for file in files])
        count += (read := right(run, pixels, labels))
        print(f"{name}: {read} of {clean}")
        assert read >= 0.8 * clean, f"{name}: {read} of the {clean} that are right when clean"
    assert count >= 0.9 * clean * len(SCENES)


@pytest.mark.parametrize(
    ("scene", "doubt"),
    [
        (Scene(place=(0.5, 0.03)), "it reaches the edge of the picture: is it cut off?"),
        (Scene(ink=0.84), "faint: "),
        (Scene(tall=0.15, pen=1.5 * 0.15 * 1200), "a blot, no strokes?"),
        (Scene(lined=0.3, squared=True, noise=0.06), "wider than a digit"),
    ],
)
def test_what_is_doubtful_is_said(scene: Scene, doubt: str, run: Trained) -> None:
    (digit,) = digits(samples(run, 1)[0][5:6])
    assert doubt in picture.read("x", photograph([digit], scene)).doubt


@pytest.mark.parametrize("scene", [Scene(tall=0.3), replace(SCENES["3 pixels on 2000 x 2000"], tall=0.2)])
def test_of_several_digits_the_largest_is_read(scene: Scene, run: Trained) -> None:
    images, labels = samples(run, 1)
    for number in (2, 3):
        found = picture.read("x", photograph(digits(images[2 : 2 + number]), scene))
        assert found.doubt == f"{number} marks as large as a digit: only the largest is read"
        with torch.no_grad():
            assert int(run.module(found.pixels[None]).argmax()) in labels[2 : 2 + number].tolist()


def test_paper_without_ink_is_refused(run: Trained) -> None:
    (digit,) = digits(samples(run, 1)[0][5:6])
    with pytest.raises(picture.BadInput, match=r"^x: no ink stands out from the paper$"):
        picture.read("x", photograph([digit], Scene(ink=0.9)))


def test_a_drawing_with_strokes_as_thick_as_mnist_s_is_prepared_as_on_the_page(run: Trained) -> None:
    for digit in digits(samples(run, 1)[0]):
        scene = Scene((280, 280), tall=0.7, pen=22, light=(1, 1, 1, 1), noise=0, quality=100, paper=0, ink=1)
        data = photograph([digit], scene)
        drawn = picture._pixels(picture._opened("x", data, "L"), picture.WORKING)
        assert torch.equal(picture.read("x", data).pixels, picture.prepare(drawn).pixels)


def test_no_strokes_are_looked_for_in_things(run: Trained) -> None:
    shirts = [np.full((28, 28), 0, np.float32) for _ in range(2)]
    for shirt in shirts:
        shirt[4:24, 12:16] = 255
    data = photograph(shirts, replace(SCENES["3 pixels on 2000 x 2000"], tall=0.2))
    assert picture.read("x", data).doubt
    clothes = replace(run, settings=replace(run.settings, data=replace(run.settings.data, name="fashion_mnist")))
    whole = picture.prepare(picture._pixels(picture._opened("x", data, "L"), picture.WORKING))
    inputs, _, doubt = classify.inputs_of(clothes, "x", data)
    assert (inputs[0].tolist(), doubt) == (whole.pixels.tolist(), "")
