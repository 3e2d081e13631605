"""The confusion matrix on the page: whole up to twenty classes, above them the most confused pairs."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from src.report import confusion, pictures
from src.report import page as report
from src.run import layout, tables
from tests.helpers.pages import LIMIT, PHONE, Open


def test_why_there_is_no_matrix(tmp_path: Path) -> None:
    assert confusion.of(tmp_path, evaluated=False)["why"].startswith("Not evaluated yet")
    assert confusion.of(tmp_path, evaluated=False)["unfit"] == ""
    found = confusion.of(tmp_path, evaluated=True)
    assert (found["confusion"], found["pairs"], found["why"]) == ([], None, "")
    assert found["unfit"] == "The model's measure returns no confusion matrix."
    tables.write(tmp_path, 1, {"confusion": [[1, 2], [3, 4]]}, print)
    assert confusion.of(tmp_path, evaluated=True) == {
        "confusion": [[1, 2], [3, 4]],
        "pairs": None,
        "why": "",
        "unfit": "",
    }


def test_the_most_confused_pairs_come_first() -> None:
    matrix = [[5, 0, 2], [7, 1, 0], [2, 0, 9]]
    found = confusion.pairs(matrix)
    assert (found["classes"], found["wrong"]) == (3, 11)
    assert found["rows"] == [[1, 0, 7, 8], [0, 2, 2, 7], [2, 0, 2, 11]]


def large(classes: int) -> list[list[int]]:
    """A diagonal of 90, and each class taken 0 to 6 times for the next."""
    rows = [[90 if guess == truth else 0 for guess in range(classes)] for truth in range(classes)]
    for truth in range(classes - 1):
        rows[truth][truth + 1] = truth * 5 % 7
    return rows


def named_run(run: Path, to: Path, classes: int, name: str) -> tuple[Path, pictures.Sources]:
    """A copy of the run with a matrix of so many classes, and its sources with names for them."""
    run = shutil.copytree(run, to)
    tables.write(run, 40, {"confusion": large(classes)}, print)
    sources = report.sources_of(run, layout.load_settings(run))
    assert sources.spec is not None
    spec = dataclasses.replace(sources.spec, names=tuple(f"{name}{label}" for label in range(classes)))
    return run, dataclasses.replace(sources, spec=spec)


@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 900}, PHONE], ids=["desktop", "phone"])
def test_a_thousand_classes_are_their_most_confused_pairs(
    viewport: dict[str, int], strangers: Path, tmp_path: Path, show: Open
) -> None:
    run, sources = named_run(strangers / "colours" / "runs" / "colours", tmp_path / "large", 1000, "\u754c" * 60)
    page = report.one(run, layout.load_settings(run), sources)
    assert len(page["classes"]) <= 4 + 2 * confusion.MOST_PAIRS
    report.write(run / report.NAME, [page])
    assert (run / report.NAME).stat().st_size < LIMIT
    shown = show(run / report.NAME, viewport)
    assert shown.inner_text("#confusion h2") == "Most confused pairs"
    rows = [row.locator("th, td").all_inner_texts() for row in shown.locator(".pairs tbody tr").all()]
    cut = "\u754c" * 40 + "..."
    assert len(rows) == confusion.MOST_PAIRS
    assert rows[0] == [cut, cut, "6", "6.3 % of 96"]
    assert f"Of 1,000 classes the pairs that were confused most often; all are in {run}/tables/confusion.json." in (
        shown.inner_text("#confusion .lead")
    )
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 900}, PHONE], ids=["desktop", "phone"])
def test_twenty_classes_with_long_names_are_a_matrix(
    viewport: dict[str, int], strangers: Path, tmp_path: Path, show: Open
) -> None:
    run, sources = named_run(strangers / "colours" / "runs" / "colours", tmp_path / "twenty", 20, "a long name ")
    report.write(run / report.NAME, [report.one(run, layout.load_settings(run), sources)])
    page = show(run / report.NAME, viewport)
    assert page.locator(".heat td").count() == 400
    assert page.locator(".heat thead th").all_inner_texts()[1:] == [f"a long name {label}" for label in range(20)]
    assert page.inner_text(".scores tbody tr >> nth=19").startswith("a long name 19")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = "all => all.filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.textContent)"
    assert page.eval_on_selector_all(".heat td", wide) == []
