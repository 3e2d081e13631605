"""The report's page in a browser: what it shows, and drawing on it."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from src.data.splits import Split
from src.report import page as report
from src.run import trained

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LIMIT = 300_000  # bytes
Open = Callable[..., Any]


def copy(run: Path, to: Path, *, without: str = "") -> Path:
    """A copy of a run directory that a test may change, perhaps without some files."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("report.html", *without.split()))
    return to


def written(run: Path) -> str:
    """The page that the command makes of a run."""
    return report.report([run], None).read_text()


def images_of(run: Path) -> Split:
    return trained.test_of(trained.load(run)).test


def tile(page: Any, selector: str) -> torch.Tensor:
    """The red of a canvas' pixels, as bytes."""
    script = """canvas => Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)
        .filter((_, at) => at % 4 === 0).map((value) => String.fromCharCode(value)).join("")"""
    return torch.tensor(list(page.eval_on_selector(selector, script).encode("latin-1")), dtype=torch.uint8)


def chances(page: Any) -> torch.Tensor:
    """The ten probabilities that the page shows, unrounded; NaN where it shows none."""
    values = page.eval_on_selector_all(".chances data", "all => all.map(one => one.value)")
    return torch.tensor([float(value or "nan") for value in values])


def shows(page: Any, digit: int | None) -> bool:
    """Whether the page comes to show this digit as the likeliest, or for None no probability at all."""
    for _ in range(300):
        page.evaluate("() => new Promise(requestAnimationFrame)")
        seen = chances(page)
        if bool(seen.isnan().all()) if digit is None else int(seen.argmax()) == digit:
            return True
    return False


def strokes(image: torch.Tensor) -> Iterator[tuple[float, float, float]]:
    """A test image as horizontal strokes (from, to, height) on the pad of 280 x 280: each row's inked stretches."""
    for row, pixels in enumerate((image.view(28, 28) > 110).tolist()):
        text = "".join("x" if pixel and row % 2 else " " for pixel in pixels)  # the pen is two rows wide
        for stretch in re.finditer("x+", text):
            start, end = 10 * stretch.start() + 11, 10 * stretch.end() - 11
            middle = (start + end) / 2
            yield min(start, middle), max(end, middle), 10 * row + 5


# The mouse's events as the browser makes them, all strokes at once.
STROKES = """(canvas, strokes) => {
  const box = canvas.getBoundingClientRect();
  const send = (type, x, y) => canvas.dispatchEvent(new PointerEvent(type, {
    pointerId: 1, pointerType: "mouse", button: 0, clientX: box.x + x, clientY: box.y + y }));
  for (const [start, end, height] of strokes) {
    send("pointerdown", start, height); send("pointermove", end, height); send("pointerup", end, height);
  }
}"""


def draw(page: Any, image: torch.Tensor, by_hand: bool) -> None:
    """Draw a test image's strokes; by hand the browser makes the events from a mouse, which takes its time."""
    page.click("text=Clear")
    box = page.locator(".pad canvas").bounding_box()
    if not by_hand:
        page.eval_on_selector(".pad canvas", STROKES, list(strokes(image)))
    for start, end, height in strokes(image) if by_hand else ():
        page.mouse.move(box["x"] + start, box["y"] + height)
        page.mouse.down()
        page.mouse.move(box["x"] + end, box["y"] + height)
        page.mouse.up()
    page.evaluate("() => new Promise(requestAnimationFrame)")


def expected(run: Path, pixels: torch.Tensor) -> torch.Tensor:
    """The probabilities (n, 10) that torch computes for images of 28 x 28 bytes."""
    loaded = trained.load(run)
    with torch.no_grad():
        return loaded.model.probabilities(loaded.module, pixels.view(-1, 28, 28))
