"""The report, seen as its reader sees it: in a real Chromium, headless, with the network cut."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from src import gallery
from src.config import UserError
from src.data import dataset as data
from src.evaluation import predict
from src.models import logistic
from src.predict import picture
from src.report import __main__ as report_command
from src.report import facts
from src.report import page as report
from src.run import jsonl, trained
from src.run.run import read_status
from tests.helpers.commands import command
from tests.helpers.once import made_once
from tests.helpers.ranks import ROOT, good_job, run_job

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LIMIT = 300_000  # bytes
NOON = "2030-01-01T12:00:00+0000"
Open = Callable[..., Any]


@pytest.fixture(scope="session")
def softmax(mnist: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of cross-entropy: one epoch on one rank, one more on two."""
    fixed = (f"data.root={mnist}", "run.name=softmax", "train.loss=cross_entropy", "optim.lr=0.3")

    def train(folder: Path) -> None:
        good_job(1, folder, *fixed, "train.epochs=1")
        good_job(2, folder, *fixed, "train.epochs=2")

    return made_once(tmp_path_factory, "softmax", train) / "runs" / "softmax"


@pytest.fixture(scope="session")
def sigmoid(mnist: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the default recipe."""
    settings = (f"data.root={mnist}", "run.name=s", "train.epochs=1")
    return made_once(tmp_path_factory, "sigmoid", lambda folder: good_job(1, folder, *settings)) / "runs" / "s"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """One browser for all tests here."""
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"no {CHROMIUM}: `apt install chromium` brings it")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def show(chromium: Any) -> Iterator[Open]:
    """show(file, viewport, **context): the page; the test fails if it said or asked anything."""
    contexts, trouble, asked = [], [], []

    def open_page(file: Path, viewport: dict[str, int] = DESKTOP, **options: Any) -> Any:
        contexts.append(chromium.new_context(viewport=viewport, offline=True, **options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: trouble.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.resolve().as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert trouble == []
    assert [url for url in asked if not url.startswith("file://")] == []
    assert len(asked) == len(contexts)


def copy(run: Path, to: Path, *, without: str = "") -> Path:
    """A run's folder to spoil, perhaps without some files."""
    shutil.copytree(run, to, ignore=shutil.ignore_patterns("report.html", *without.split()))
    return to


def written(run: Path) -> str:
    """The page that the command makes of a run."""
    return report.report([run], None).read_text()


def test_images(run: Path) -> data.Split:
    return data._split(data.folder(trained.load(run).settings.data), *data.TEST)


test_images.__test__ = False  # type: ignore[attr-defined]


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
    """What torch makes of one or more pictures of 28 x 28 bytes: (n, 10)."""
    loaded = trained.load(run, best=False)
    with torch.no_grad():
        return gallery.probabilities(predict(loaded.module, pixels.view(-1, 784)), loaded.settings.train.loss)


def test_a_finished_run_has_one_small_page(softmax: Path) -> None:
    page = (softmax / report.NAME).read_text()
    assert len(page.encode()) < LIMIT / 2
    assert page.isascii()
    assert re.findall(r"(?:src|href)=|@import|url\(", re.sub(r"href: `#\$", "", page)) == []


def test_it_is_imported_at_the_end_only() -> None:
    script = "import sys, src.train; assert not {'src.report.page', 'src.report.facts'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=240).returncode == 0


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_headline(viewport: dict[str, int], softmax: Path, show: Open) -> None:
    status = read_status(softmax)
    page = show(softmax / report.NAME, viewport)
    text = page.inner_text("header")
    assert f"{status['correct']}/10000" in text
    assert f"{status['correct'] / 100:.2f} %" in text
    assert status["weights_sha256"] in text
    assert "1 \u2192 2 ranks" in text
    (speed,) = re.findall(r"([\d,]+) samples/s", text)
    assert int(speed.replace(",", "")) == pytest.approx(status["samples_per_second"], abs=1)
    assert re.search(r"Wall time\n\d+ s in 2 attempts", text)
    assert "torchrun --nproc_per_node=2 -m src.train" in text
    assert page.title() == f"softmax: {status['correct']}/10000"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not page.is_visible("#warning")


# For each element with text of its own: the contrast of its colour with what is behind it (WCAG 2.1, 1.4.3).
CONTRAST = """() => {
  const channels = (colour) => {
    const context = Object.assign(document.createElement("canvas"), {width: 1, height: 1}).getContext("2d");
    context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
    return Array.from(context.getImageData(0, 0, 1, 1).data);
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, at) => (value * a + below[at] * (255 - a)) / 255);
  const behind = (element) => {
    if (!element) return [255, 255, 255];
    const own = channels(getComputedStyle(element).backgroundColor);
    return own[3] === 255 ? own.slice(0, 3) : over(own, behind(element.parentElement));
  };
  const light = (rgb) => rgb.map((value) => value / 255)
    .map((value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const own = (element) => Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim());
  return Array.from(document.querySelectorAll("body *"))
    .filter((element) => own(element) && element.checkVisibility() && !element.closest("script, .pad"))
    .map((element) => {
      const style = getComputedStyle(element), ground = behind(element);
      const ink = over(channels(element.closest("svg") ? style.fill : style.color), ground);
      const [bright, dark] = [light(ink), light(ground)].sort((a, b) => b - a);
      return [(bright + 0.05) / (dark + 0.05), element.textContent.slice(0, 40)];
    }).sort((a, b) => a[0] - b[0]);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes_can_be_read(scheme: str, softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME, color_scheme=scheme)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(ground.removeprefix("rgb(").split(",")[0]) < 100) == (scheme == "dark")
    found = page.evaluate(CONTRAST)
    assert len(found) > 300
    assert found[0][0] >= 4.5, found[:5]


def test_it_prints_light_and_without_what_needs_a_pointer(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("#draw")
    assert page.is_visible(".heat")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) <= 7


def test_everything_has_a_name(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME)
    unnamed = """() => Array.from(document.querySelectorAll("canvas, svg, button, nav, a, [role]")).filter((element) =>
        !element.getAttribute("aria-label") && !element.textContent.trim() && !element.querySelector("[aria-label]")
        && !["alert", "status"].includes(element.getAttribute("role"))).map((element) => element.outerHTML)"""
    assert page.evaluate(unnamed) == []
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1


def test_curves_show_the_values_under_the_pointer(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME)
    rows = [line for line in jsonl.read(softmax / "metrics.jsonl") if line["kind"] == "train"]
    tests = [line for line in jsonl.read(softmax / "metrics.jsonl") if line["kind"] == "test"]
    titles = page.eval_on_selector_all(".chart h3", "all => all.map(one => one.textContent)")
    assert [title.split()[0] for title in titles] == ["Loss", "Accuracy", "Learning", "Samples"]
    box = page.locator(".chart svg").first.bounding_box()
    middle = box["x"] + 52 + (box["width"] - 62) / 2  # the plot between its edges: half of all steps
    page.mouse.move(middle, box["y"] + 100)
    nearest = min(rows, key=lambda row: abs(row["step"] - rows[-1]["step"] / 2))
    shown = page.eval_on_selector_all(".chart .legend data", "all => all.map(one => Number(one.value))")
    assert shown[0] == pytest.approx(nearest["loss"], rel=1e-5)
    assert shown[1] == pytest.approx(tests[0]["loss"], rel=1e-5)
    assert shown[2] == pytest.approx(tests[0]["accuracy"], rel=1e-5)
    assert shown[3] == pytest.approx(nearest["lr"], rel=1e-5)
    assert shown[4] == pytest.approx(nearest["samples_per_second"], rel=1e-5)
    page.mouse.move(5, 5)
    assert page.inner_text(".chart .at >> nth=0") == "last"


def test_curves_can_be_read_by_keyboard_and_finger(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME, PHONE, has_touch=True)
    page.focus(".chart svg >> nth=1")
    page.keyboard.press("Home")
    assert page.inner_text(".chart .at >> nth=1") == "step 0"
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".chart .at >> nth=0") == "step 38"
    spoken = page.get_attribute(".chart svg >> nth=0", "aria-valuetext")
    assert re.fullmatch(r"step 38: train \d\.\d+, test \d\.\d+", spoken)
    page.locator(".chart svg").nth(2).tap()
    assert re.match(r"step (8|9)\d\d|step 1,", page.inner_text(".chart .at >> nth=2"))


def test_interruptions_are_marked(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME)
    (mark,) = page.locator(".marks li").all_inner_texts()
    assert mark == "Step 938: finished before; went on at step 938 on 2 ranks instead of 1"
    assert page.locator("svg .mark").count() == 4
    assert "went on at step 938 on 2 ranks instead of 1" in page.inner_text("#life")


def test_marks_and_life_of_every_kind() -> None:
    def event(name: str, **more: Any) -> dict[str, Any]:
        return {"time": "2026-01-01T00:00:00+0000", "event": name, "world_size": 4, **more}

    events = [event("start", step=0), event("checkpoint", step=5, milliseconds=2.5)]
    events += [event("resume", step=5, world_size_before=4), event("stop", step=8, reason="SIGTERM")]
    events += [event("resume", step=8, world_size_before=4), event("failed", reason="boom")]
    events += [event("resume", step=8, world_size_before=2), event("stop", step=9, reason="STOP")]
    assert [(mark["step"], mark["kind"], mark["text"]) for mark in facts.marks(events)] == [
        (5, "resumed", "killed; went on at step 5 on 4 ranks"),
        (8, "resumed", "stopped (SIGTERM); went on at step 8 on 4 ranks"),
        (8, "resized", "failed (boom); went on at step 8 on 4 ranks instead of 2"),
        (9, "stopped", "stopped (STOP)"),
    ]
    many = facts.life([event("checkpoint", step=step, milliseconds=2) for step in range(50)])
    assert [row["text"] for row in many] == ["50 checkpoints, the last in 2 ms"]
    long = facts.life(events[3:5] * 300)
    assert len(long) == facts.LIFE + 1
    assert long[facts.LIFE // 2]["text"] == "... 400 more ..."


def test_wall_time_leaves_out_the_time_between_attempts() -> None:
    times = [("start", "10:00:00"), ("stop", "10:00:30"), ("resume", "12:00:00"), ("checkpoint", "12:00:05")]
    events = [{"event": name, "time": f"2026-01-01T{time}+0000"} for name, time in times]
    assert facts.wall_seconds(events) == 35
    assert facts.wall_seconds(events, "2026-01-01T12:01:00+00:00") == 90


def test_counts_templates_and_the_most_wrong(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME)
    confusion = torch.tensor(list(jsonl.read(softmax / "metrics.jsonl"))[-1]["confusion"])
    assert page.locator(".heat td").all_inner_texts() == [str(int(count)) for count in confusion.flatten()]
    recall = 100 * confusion.diag() / confusion.sum(1)
    precision = 100 * confusion.diag() / confusion.sum(0)
    cells = page.locator(".scores tbody td").all_inner_texts()
    assert [cell.strip() for cell in cells[1::4]] == [f"{value:.1f} %" for value in precision]
    assert [cell.strip() for cell in cells[2::4]] == [f"{value:.1f} %" for value in recall]
    assert page.locator(".templates canvas").count() == 10
    run, test = trained.load(softmax, best=False), test_images(softmax)
    wrong = gallery.most_wrong(run.module, test, "cross_entropy", report.WRONG)
    captions = page.locator(".wrongs figcaption").all_inner_texts()
    assert len(captions) == 24
    for row, caption in zip(wrong, captions, strict=True):
        assert caption.split("\n") == [
            f"is {row.truth}, guessed {row.guess}",
            pytest.approx(f"{100 * row.probability:.1f} %"),
        ]
    assert torch.equal(tile(page, ".wrongs canvas"), test.images[wrong[0].index])
    page.click(".wrongs button >> nth=3")
    assert torch.equal(tile(page, "canvas.seen"), test.images[wrong[3].index])
    assert torch.allclose(chances(page), expected(softmax, test.images[wrong[3].index])[0], atol=1e-5)


def test_templates_are_the_weights(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME)
    script = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 28, 28).data)"
    pixels = torch.tensor(page.eval_on_selector(".templates canvas >> nth=3", script)).view(784, 4)
    weight = gallery.templates(trained.load(softmax, best=False).module)[3].flatten()
    clear = weight.abs() > 0.1 * weight.abs().max()
    assert torch.equal(pixels[clear, 0] > pixels[clear, 2], weight[clear] > 0)  # orange speaks for, blue against


@pytest.mark.parametrize(("kind", "number", "least"), [("softmax", 10, 8), ("sigmoid", 3, 2)])
def test_what_is_drawn_is_classified_as_torch_does(
    kind: str, number: int, least: int, show: Open, request: pytest.FixtureRequest
) -> None:
    run: Path = request.getfixturevalue(kind)
    page, test = show(run / report.NAME), test_images(run)
    likely = expected(run, test.images[:1000]).gather(1, test.labels[:1000, None]).flatten()
    sure = [int((likely * (test.labels[:1000] == digit)).argmax()) for digit in range(number)]
    page.evaluate("document.getElementById('draw').scrollIntoView({behavior: 'instant'})")
    agreed = 0
    for digit in range(number):
        draw(page, test.images[sure[digit]], by_hand=digit == 0)
        drawn, seen = tile(page, ".pad canvas").view(280, 280), tile(page, "canvas.seen").view(28, 28)
        assert torch.equal(picture.prepare(drawn.float() / 255).pixels, seen)
        should = expected(run, seen)[0]
        assert torch.allclose(chances(page), should, atol=1e-5, rtol=0)
        guess = int(page.inner_text(".chances .guess span"))
        assert guess == int(should.argmax())
        agreed += guess == digit
    assert agreed >= least  # the pen is bolder than most hands


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
    found = torch.tensor(page.evaluate(script, report._base64(drawings)), dtype=torch.uint8)
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


def test_a_run_that_has_only_begun_says_what_is_missing(softmax: Path, tmp_path: Path, show: Open) -> None:
    bare = copy(softmax, tmp_path / "bare", without="*.pt *.json *.jsonl")
    written(bare)
    page = show(bare / report.NAME)
    assert "Not evaluated yet" in page.inner_text("header")
    assert "Nothing is recorded yet" in page.inner_text("#curves")
    assert page.inner_text("#draw").count("has no weights yet") == 1
    assert page.locator(".missing").count() == 7
    running = copy(softmax, tmp_path / "running", without="*.pt")
    (running / "status.json").write_text('{"state": "running", "step": 940, "world_size": 2}')
    written(running)
    page = show(running / report.NAME)
    assert re.search(r"State\nrunning at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", page.inner_text("header"))
    assert page.locator(".heat td").count() == 100


def test_without_the_data_there_are_no_pictures_of_it(softmax: Path, small: str, tmp_path: Path, show: Open) -> None:
    settings = (softmax / "config.yaml").read_text()
    for root, said in ((tmp_path / "none", "is not in"), (tmp_path / "other", "other data than")):
        run = copy(softmax, tmp_path / f"run-{root.name}")
        (run / "config.yaml").write_text(re.sub(r"root: .*mnist.*", f"root: {root}", settings))
        if root.name == "other":
            shutil.copytree(Path(small) / "IDX", root / "IDX")
            text = (run / "config.yaml").read_text()
            (run / "config.yaml").write_text(text.replace("name: mnist", "name: idx"))
        written(run)
        page = show(run / report.NAME)
        assert said in page.inner_text("#wrong .missing")
        assert page.locator(".templates canvas").count() == 10
        assert page.is_visible(".pad")


class Normed(nn.Module):
    """One matrix, as templates() likes it, and yet not linear."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(logistic.PIXELS), nn.Linear(logistic.PIXELS, logistic.CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(self.norm(images))
        return out


def test_a_model_that_is_not_linear_has_no_canvas(softmax: Path, tmp_path: Path, show: Open) -> None:
    settings = facts.settings_of(softmax)
    shown = report.Shown(Normed(), test_images(softmax), "step-1.pt")
    report.write(tmp_path / "page.html", [report.one(softmax, settings, shown)])
    page = show(tmp_path / "page.html")
    assert "not one linear layer" in page.inner_text("#templates")
    assert "this one is another" in page.inner_text("#draw")
    assert page.locator(".wrongs canvas").count() == 24


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 70, 50), (1, 28, 28), (4, 5)])
def test_pictures_of_any_shape(shape: tuple[int, ...], softmax: Path, tmp_path: Path, show: Open) -> None:
    images = torch.arange(24 * torch.Size(shape).numel()).view(24, *shape).to(torch.uint8)
    found = report.one(softmax, facts.settings_of(softmax), report.Shown(None, None))
    found["wrong"] = report._images(images) | {"rows": [[at, 1, 2, 0.5] for at in range(24)]}
    report.write(tmp_path / "page.html", [found])
    assert (tmp_path / "page.html").stat().st_size < LIMIT
    page = show(tmp_path / "page.html")
    script = "canvas => Array.from(canvas.getContext('2d').getImageData(0, 0, 1, 1).data)"
    corner = page.eval_on_selector(".wrongs canvas >> nth=1", script)
    first = images[1, :, 0, 0] if len(shape) == 3 else images[1, 0, 0][None]
    assert corner == [*(first.tolist() * 3)[:3], 255]


def test_a_hundred_thousand_lines_stay_small(softmax: Path, tmp_path: Path, show: Open) -> None:
    run = copy(softmax, tmp_path / "long")
    confusion = list(jsonl.read(softmax / "metrics.jsonl"))[-1]["confusion"]
    with (run / "metrics.jsonl").open("w") as stream:
        for number in range(1, 100_001):
            where = {"epoch": number, "step": number * 123_457, "samples_seen": number * 7_901_248}
            noise = (number * 7919 % 1000) / 1000
            loss = float("nan") if number == 50_001 else 77.0 if number == 40_001 else 0.5 + noise / 3
            row: dict[str, Any] = {"kind": "train", "loss": loss, "lr": 0.1 / number, "samples_per_second": 1e5 * noise}
            if number % 10 == 0:
                row = {"kind": "test", "correct": 9000 + number % 97, "count": 10000, "accuracy": 0.9 + noise / 30}
                row |= {"loss": loss, "confusion": confusion}
            stream.write(json.dumps({"kind": row.pop("kind"), **where, **row}) + "\n")
    page_text = written(run)
    assert len(page_text.encode()) < LIMIT
    assert "NaN" not in page_text.split("application/json")[1].split("</script>")[0]
    page = show(run / report.NAME)
    assert page.evaluate("Math.max(...RUN.curves.train.map((row) => row[1]))") == 77  # no spike is lost
    assert page.evaluate("RUN.curves.train.some((row) => row[1] === null)")
    assert page.locator(".chart path.curve").count() == 5
    assert report.report([run, run], tmp_path / "two.html").stat().st_size < LIMIT


def test_many_runs_stay_small(softmax: Path, tmp_path: Path) -> None:
    run = copy(softmax, tmp_path / "x", without="*.pt")
    where = [{"step": step, "samples_seen": 64 * step, "epoch": 1, "kind": "train"} for step in range(1000)]
    more = {"loss": 0.123456, "lr": 0.123456, "samples_per_second": 12345.6}
    text = "".join(json.dumps({**row, **more}) + "\n" for row in where)
    (run / "metrics.jsonl").write_text(text)
    stop = {"time": NOON, "world_size": 1, "reason": "SIGTERM"}
    events = [stop | {"event": ("stop", "resume")[at % 2], "step": at // 2} for at in range(2000)]
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert len(written(run).encode()) < LIMIT
    assert report.report([run] * 20, None).stat().st_size < LIMIT


def test_thinning_keeps_ends_and_extremes() -> None:
    rows = [[step, (step * 37 % 101) / 101] for step in range(5000)]
    rows[1234][1], rows[4321][1] = 9.0, -9.0
    kept = facts.thin(rows, 100, 1)
    assert len(kept) <= 100
    assert {0, 1234, 4321, 4999} <= {row[0] for row in kept}
    assert facts.thin(rows[:100], 100, 1) == rows[:100]


def test_no_name_note_or_reason_breaks_out_of_the_page(softmax: Path, tmp_path: Path, show: Open) -> None:
    evil, worse = "<!--<script>", "</script><img src=x onerror=document.title='broken'>"
    run = copy(softmax, tmp_path / "<b>x&amp;")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("notes: ''", f'notes: "{evil}"'))
    with (run / "events.jsonl").open("a") as stream:
        stream.write(json.dumps({"time": NOON, "event": "failed", "reason": worse, "world_size": 1, "job": ""}) + "\n")
    written(run)
    page = show(run / report.NAME)
    assert page.inner_text("h1") == "<b>x&amp;"
    assert f"failed ({worse})" in page.inner_text("#life")
    assert evil in page.inner_text("#settings")
    assert page.title().startswith("<b>x&amp;: ")


def test_secrets_stay_out(softmax: Path, tmp_path: Path) -> None:
    run = copy(softmax, tmp_path / "secret")
    with (run / "events.jsonl").open("a") as stream:
        reason = "https://user:hunter2@mirror.invalid/x answers 404"
        stream.write(json.dumps({"time": NOON, "event": "failed", "reason": reason, "world_size": 1, "job": ""}) + "\n")
    page = written(run)
    assert "https://***@mirror.invalid/x answers 404" in page
    assert "hunter2" not in page


def test_the_embedded_data_set_cannot_be_missed(softmax: Path, tmp_path: Path, show: Open) -> None:
    run = copy(softmax, tmp_path / "embedded")
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(settings.replace("name: mnist", "name: digits"))
    made_by = json.loads((run / "provenance.json").read_text())
    made_by["data"]["note"] = "mnist is not here and no mirror answers"
    (run / "provenance.json").write_text(json.dumps(made_by))
    written(run)
    page = show(run / report.NAME, PHONE)
    box = page.locator("#warning").bounding_box()
    assert (box["x"], box["y"], box["width"]) == (0, 0, PHONE["width"])
    said = page.inner_text("#warning")
    assert said.startswith("Not MNIST: this run trained on the embedded digits")
    assert "no mirror answers" in said
    assert "digits (embedded, not MNIST)" in page.inner_text("header")
    report.report([softmax, run], tmp_path / "both.html")
    assert "embedded trained on the embedded digits" in show(tmp_path / "both.html").inner_text("#warning")


def test_several_runs_together(
    softmax: Path,
    sigmoid: Path,
    tmp_path: Path,
    show: Open,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["report", str(softmax), str(sigmoid)])
    report_command.main()
    assert capsys.readouterr().out == f"{softmax.parent}/compare.html\n"
    page = show(softmax.parent / report.COMPARED)
    head = page.locator("#compare thead th").all_inner_texts()
    assert {"result", "samples/s", "train.loss", "optim.lr", "train.epochs"} <= set(head)
    assert "train.seed" not in head
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#compare tbody tr").all()]
    assert [row[head.index("train.loss") - 1] for row in rows] == ["cross_entropy", "bce"]
    assert page.locator(".chart >> nth=0").locator("path.curve").count() == 2
    assert page.locator("#draw").count() == 0
    assert report.report([softmax, sigmoid], tmp_path / "there.html").exists()


def test_mistakes_are_one_line(softmax: Path, tmp_path: Path) -> None:
    done = command("src.report", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path}: is no run")
    assert len(done.stderr.splitlines()) == 1
    with pytest.raises(UserError, match=r"no/page\.html: cannot be written \(No such file.*--file"):
        report.report([softmax], tmp_path / "no" / "page.html")


def test_a_report_that_cannot_be_written_costs_a_warning(small: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / "x" / report.NAME / "in the way").mkdir(parents=True)
    job = run_job(2, tmp_path, "data.name=idx", f"data.root={small}", "run.name=x", "train.epochs=1")
    assert job.codes == [0, 0], job.output
    assert job.output.count("warning: ") == 1
    assert "report.html: not written (" in job.output
    assert read_status(job.run)["state"] == "finished"
