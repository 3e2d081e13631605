"""report_curves.js: the curves, read by pointer, keyboard and finger."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from src.report import page as report
from src.run import jsonl
from tests.helpers.pages import LIMIT, PHONE, Open, copy, written


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


@pytest.mark.slow(seconds=9)
def test_the_page_of_100000_lines_is_small(softmax: Path, tmp_path: Path, show: Open) -> None:
    run = copy(softmax, tmp_path / "long")
    with (run / "metrics.jsonl").open("w") as stream:
        for number in range(1, 100_001):
            where = {"epoch": number, "step": number * 123_457, "samples_seen": number * 7_901_248}
            noise = (number * 7919 % 1000) / 1000
            loss = float("nan") if number == 50_001 else 77.0 if number == 40_001 else 0.5 + noise / 3
            row: dict[str, Any] = {"kind": "train", "loss": loss, "lr": 0.1 / number, "samples_per_second": 1e5 * noise}
            if number % 10 == 0:
                row = {"kind": "test", "correct": 9000 + number % 97, "count": 10000, "accuracy": 0.9 + noise / 30}
                row |= {"loss": loss}
            stream.write(json.dumps({"kind": row.pop("kind"), **where, **row}) + "\n")
    page_text = written(run)
    assert len(page_text.encode()) < LIMIT
    assert "NaN" not in page_text.split("application/json")[1].split("</script>")[0]
    page = show(run / report.NAME)
    assert page.evaluate("Math.max(...RUN.curves.train.rows.map((row) => row[1]))") == 77  # no spike is lost
    assert page.evaluate("RUN.curves.train.rows.some((row) => row[1] === null)")
    assert page.locator(".chart path.curve").count() == 5
    assert report.report([run, run], tmp_path / "two.html").stat().st_size < LIMIT
