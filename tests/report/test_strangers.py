"""The page of a model that nothing in src knows: what fits is there, what does not is one line that says so."""

from pathlib import Path

import pytest

from src.report import page as report
from tests.helpers.pages import LIMIT, PHONE, Open
from tests.helpers.strangers import TEST

TITLES = {
    "colours": ["Training loss", "Top1 on the test set", "Nll on the test set"],
    "tokens": ["Loss", "Right on the test set"],
    "outputs": ["Loss"],
}
NO_PICTURES = {"tokens": "as inputs; these are (8,) of uint8.", "outputs": "as inputs; these are (3,) of float32."}


@pytest.mark.parametrize("name", TITLES)
def test_the_page_of_a_stranger(name: str, strangers: Path, show: Open) -> None:
    run = strangers / name / "runs" / name
    assert (run / report.NAME).stat().st_size < LIMIT
    page = show(run / report.NAME, PHONE)
    titles = page.locator(".chart h3").all_inner_texts()
    assert titles == [*TITLES[name], "Learning rate", "Samples per second since the start or resume"]
    header = page.inner_text("header")
    metric = {"colours": f"/{TEST}", "tokens": "loss", "outputs": "loss"}[name]
    assert metric in header
    assert "undefined" not in page.inner_text("body")
    assert "NaN" not in page.inner_text("body")
    assert page.locator("#draw, #templates").count() == 0
    unfit = page.inner_text("#unfit")
    assert "Drawing needs a model of one linear layer" in unfit
    if name == "colours":
        assert page.locator(".heat td").count() == 16
        assert page.locator(".wrongs canvas").count() > 5
    else:
        assert page.locator("#confusion, #wrong, nav a[href='#wrong']").count() == 0
        assert "returns no confusion matrix" in unfit
        assert NO_PICTURES[name] in unfit
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.focus(".chart svg >> nth=0")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text(".chart .at >> nth=0").startswith("step ")


def test_strangers_are_compared_side_by_side(strangers: Path, tmp_path: Path, show: Open) -> None:
    """Runs of other models have other metrics and other settings."""
    runs = [strangers / name / "runs" / name for name in TITLES]
    report.report(runs, tmp_path / "all.html")
    page = show(tmp_path / "all.html")
    head = page.locator("#compare thead th").all_inner_texts()
    assert "model.channels" in head
    rows = [row.locator("td").all_inner_texts() for row in page.locator("#compare tbody tr").all()]
    assert [row[head.index("model.channels") - 1] for row in rows] == ["8", "\u2013", "\u2013"]
    titles = page.locator(".chart h3").all_inner_texts()
    assert {"Training loss", "Top1 on the test set", "Loss on the test set"} <= set(titles)
    assert page.locator(".chart").first.locator("path.curve").count() == 3
