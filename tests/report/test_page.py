"""The report's page in a headless Chromium without a network."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.report import page as report
from src.run import trained
from src.run.layout import newest_first, read_status
from src.run.lock import hold
from tests.helpers.pages import DESKTOP, LIMIT, PHONE, Open, copy, written
from tests.helpers.ranks import ROOT, run_job

NOON = "2030-01-01T12:00:00+0000"


def test_a_finished_run_has_one_small_page(softmax: Path) -> None:
    page = (softmax / report.NAME).read_text()
    assert len(page.encode()) < LIMIT / 2
    assert page.isascii()
    assert re.findall(r"(?:src|href)=|@import|url\(", re.sub(r"href: `#\$", "", page)) == []


def test_training_does_not_import_the_report() -> None:
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


def test_print_style(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("#draw")
    assert page.is_visible(".heat")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", page.pdf(format="A4"))) <= 7


def test_accessible_names_and_headings(softmax: Path, show: Open) -> None:
    page = show(softmax / report.NAME)
    unnamed = """() => Array.from(document.querySelectorAll("canvas, svg, button, nav, a, [role]")).filter((element) =>
        !element.getAttribute("aria-label") && !element.textContent.trim() && !element.querySelector("[aria-label]")
        && !["alert", "status"].includes(element.getAttribute("role"))).map((element) => element.outerHTML)"""
    assert page.evaluate(unnamed) == []
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1


def test_an_unfinished_run_says_what_is_missing(softmax: Path, tmp_path: Path, show: Open) -> None:
    bare = copy(softmax, tmp_path / "bare", without="*.pt *.json *.jsonl")
    written(bare)
    page = show(bare / report.NAME)
    assert "Not evaluated yet" in page.inner_text("header")
    assert "No line in metrics.jsonl yet" in page.inner_text("#curves")
    assert page.inner_text("#draw").count("has no weights yet") == 1
    assert page.locator(".missing").count() == 7
    running = copy(softmax, tmp_path / "running", without="*.pt")
    (running / "status.json").write_text('{"state": "running", "step": 940, "world_size": 2}')
    lock = hold(running)
    written(running)
    os.close(lock)
    page = show(running / report.NAME)
    assert re.search(r"State\nrunning at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", page.inner_text("header"))
    assert page.locator(".heat td").count() == 100


def test_the_page_of_many_runs_is_small(softmax: Path, tmp_path: Path) -> None:
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


def test_the_seconds_of_each_rank_are_a_table(softmax: Path, show: Open) -> None:
    text = show(softmax / report.NAME).inner_text("#life")
    assert "rank\tcomputing\twaiting for others\twaiting for data\tsaving" in text
    rows = re.findall(r"^(\d)\t([\d.]+)\t[\d.]+\t[\d.]+\t[\d.]+$", text, re.MULTILINE)
    assert [rank for rank, _ in rows] == ["0", "1"]
    assert all(float(computing) > 0 for _, computing in rows)


def test_text_of_the_run_is_escaped(softmax: Path, tmp_path: Path, show: Open) -> None:
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


def test_secrets_are_not_written(softmax: Path, tmp_path: Path) -> None:
    run = copy(softmax, tmp_path / "secret")
    with (run / "events.jsonl").open("a") as stream:
        reason = "https://user:hunter2@mirror.invalid/x answers 404"
        stream.write(json.dumps({"time": NOON, "event": "failed", "reason": reason, "world_size": 1, "job": ""}) + "\n")
    page = written(run)
    assert "https://***@mirror.invalid/x answers 404" in page
    assert "hunter2" not in page


def test_a_banner_warns_of_the_embedded_data_set(softmax: Path, tmp_path: Path, show: Open) -> None:
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


def test_sums_are_no_text_that_was_asked_for(softmax: Path, tmp_path: Path) -> None:
    run = copy(softmax, tmp_path / "sums")
    settings = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(settings.replace("name: mnist", "name: sums"))
    assert content_of(written(run))["data"] == {"name": "sums", "note": "", "embedded": ""}
    made_by = json.loads((run / "provenance.json").read_text())
    made_by["data"]["note"] = "text is not here"
    (run / "provenance.json").write_text(json.dumps(made_by))
    assert content_of(written(run))["data"]["embedded"] == "the text asked for"


def test_the_pictures_are_by_best_pt_wherever_the_page_is_written(softmax: Path, tmp_path: Path) -> None:
    """By the job, which has the last step's weights in memory, and by the command."""
    run = copy(softmax, tmp_path / "run")
    best, (newest, older) = run / "checkpoints" / "best.pt", newest_first(run / "checkpoints")
    best.unlink()
    shutil.copy(older, best)
    last = trained.load(run, best=False)
    assert last.checkpoint == newest
    report.at_the_end(run, last.settings, last.model, last.module, trained.test_of(last))
    by_job = content_of((run / report.NAME).read_text())
    assert by_job["checkpoint"] == "best.pt"
    assert by_job == content_of(written(run))
    best.unlink()
    report.at_the_end(run, last.settings, last.model, last.module, trained.test_of(last))
    assert content_of((run / report.NAME).read_text())["wrong"] != by_job["wrong"]
    assert content_of(written(run))["checkpoint"] == newest.name


def content_of(page: str) -> dict[str, Any]:
    """What the page says of its only run."""
    run: dict[str, Any] = json.loads(page.split('id="facts">')[1].split("</script>")[0])["runs"][0]
    return run


def test_a_report_that_cannot_be_written_costs_a_warning(small: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / "x" / report.NAME / "in the way").mkdir(parents=True)
    job = run_job(2, tmp_path, "data.name=idx", f"data.root={small}", "run.name=x", "train.epochs=1")
    assert job.codes == [0, 0], job.output
    assert job.output.count("warning: ") == 1
    assert "report.html: not written (" in job.output
    assert read_status(job.run)["state"] == "finished"
