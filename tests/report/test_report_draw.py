"""report_draw.js: digits drawn on the page, prepared and classified as torch does."""

from pathlib import Path

import pytest
import torch
from torch import nn

from src.predict import picture
from src.report import page as report
from src.report import pictures
from src.run import trained
from tests.helpers.pages import PHONE, Open, chances, draw, expected, images_of, shows, tile


@pytest.mark.parametrize(("kind", "number", "least"), [("softmax", 10, 8), ("sigmoid", 3, 2)])
def test_what_is_drawn_is_classified_as_torch_does(
    kind: str, number: int, least: int, show: Open, request: pytest.FixtureRequest
) -> None:
    run: Path = request.getfixturevalue(kind)
    page, test = show(run / report.NAME), images_of(run)
    likely = expected(run, test.inputs[:1000]).gather(1, test.targets[:1000][:, None]).flatten()
    sure = [int((likely * (test.targets[:1000] == digit)).argmax()) for digit in range(number)]
    page.evaluate("document.getElementById('draw').scrollIntoView({behavior: 'instant'})")
    agreed = 0
    for digit in range(number):
        draw(page, test.inputs[sure[digit]], by_hand=digit == 0)
        drawn, seen = tile(page, ".pad canvas").view(280, 280), tile(page, "canvas.seen").view(28, 28)
        assert torch.equal(picture.prepare(drawn.float() / 255).pixels, seen)
        should = expected(run, seen)[0]
        assert torch.allclose(chances(page), should, atol=1e-5, rtol=0)
        guess = int(page.inner_text(".chances .guess span"))
        assert guess == int(should.argmax())
        agreed += guess == digit
    assert agreed >= least  # the pen is wider than most strokes of MNIST


def test_drawings_are_prepared_to_the_pixel(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME)
    random = torch.Generator().manual_seed(0)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=random))

    drawings = torch.zeros(60, 96, 96, dtype=torch.uint8)
    for trial, drawing in enumerate(drawings):
        for _ in range(number(1, 5)):
            top, left = number(1, 90), number(1, 90)
            shape = drawing[top : min(95, top + number(1, 70)), left : min(95, left + number(1, 70))]
            fill = torch.randint(0, 256, shape.shape, generator=random) if trial % 2 else torch.full(shape.shape, 240)
            shape.copy_(fill.to(torch.uint8))
    script = """text => { const all = bytes(text), one = 96 * 96;
        return Array.from({length: 60}, (_, at) => Array.from(prepared(all.slice(at * one, (at + 1) * one), 96))); }"""
    found = torch.tensor(page.evaluate(script, pictures._base64(drawings)), dtype=torch.uint8)
    for drawing, pixels in zip(drawings, found, strict=True):
        assert torch.equal(pixels, picture.prepare(drawing.float() / 255).pixels.flatten())
    assert page.evaluate("prepared(new Uint8Array(96 * 96), 96)") is None


def test_drawing_by_finger_and_by_keyboard(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME, PHONE, has_touch=True, is_mobile=True)
    page.evaluate("document.querySelector('.pad').scrollIntoView({behavior: 'instant', block: 'center'})")
    box, touch = page.locator(".pad canvas").bounding_box(), page.context.new_cdp_session(page)

    def finger(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    scrolled = page.evaluate("scrollY")
    finger("touchStart", (0.5, 0.2))
    for part in range(1, 13):
        finger("touchMove", (0.5, 0.2 + 0.05 * part))
    finger("touchEnd")
    assert shows(page, 1)
    assert page.evaluate("scrollY") == scrolled  # drawing does not scroll the page
    page.click("text=Undo")  # a tap this soon after bare touches may be taken for a gesture
    assert shows(page, None)
    page.focus(".pad canvas")
    for key in ("Space", *["ArrowDown"] * 16):
        page.keyboard.press(key)
    assert shows(page, 1)
    page.keyboard.press("Escape")
    assert shows(page, None)
    assert page.is_visible(".pad .hint")


class Normed(nn.Module):
    """Has one matrix, and is not linear."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear, self.loss = nn.LayerNorm(784), nn.Linear(784, 10), "cross_entropy"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.linear(self.norm(images.flatten(1).float()))
        return logits


def test_a_model_that_is_not_linear_has_no_canvas(softmax: Path, tmp_path: Path, show: Open) -> None:
    run = trained.load(softmax)
    sources = pictures.Sources(run.model, Normed(), run.spec, images_of(softmax), "step-1.pt")
    report.write(tmp_path / "page.html", [report.one(softmax, run.settings, sources)])
    page = show(tmp_path / "page.html")
    assert page.locator("#templates, #draw, nav a[href='#draw']").count() == 0
    assert page.inner_text("#unfit").startswith("Not on this page: Weight templates need a model of one linear layer")
    assert page.locator(".wrongs canvas").count() == 24
