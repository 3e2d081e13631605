"""The bench's own words; its figures are taken by `make bench` and `make scale`."""

import re
from pathlib import Path

import pytest

from tests.bench import compare, page, wider
from tests.bench.page import PAGES
from tests.helpers.ranks import ROOT


def test_every_section_that_is_written_has_its_place() -> None:
    scripts = "".join(file.read_text() for file in (ROOT / "tests" / "bench").glob("*.py"))
    commands = (ROOT / "Makefile").read_text()
    sections = re.findall(r'write\("([\w ]+)"', scripts) + re.findall(r'--section="([\w ]+)"', commands) + ["peers"]
    expected = {
        "scale",
        "wider",
        "bandwidth",
        "profile",
        "tracking",
        "growth",
        "ten epochs",
        "peers",
        "start",
        "restart",
        "gpu",
    }
    assert expected == set(sections)
    pages = "".join(page.read_text() for page in PAGES)
    for section in sections:
        assert pages.count(f"<!-- {section} -->") == pages.count(f"<!-- end of {section} -->") == 1


def test_the_pages_are_short_enough_to_read() -> None:
    assert all(len(page.read_text().splitlines()) < 150 for page in PAGES)


def test_a_section_is_replaced_on_the_page_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one.md", tmp_path / "other.md"
    one.write_text("<!-- a -->\nold\n<!-- end of a -->\nby hand\n")
    other.write_text("<!-- b -->\nold\n<!-- end of b -->\n")
    monkeypatch.setattr(page, "PAGES", [one, other])
    page.write("b", "new\n")
    assert (one.read_text(), other.read_text()) == (
        "<!-- a -->\nold\n<!-- end of a -->\nby hand\n",
        "<!-- b -->\nnew\n<!-- end of b -->\n",
    )
    with pytest.raises(SystemExit, match="no page in docs/ has a section c"):
        page.write("c", "new\n")


def test_what_wider_models_say() -> None:
    gains = dict(zip(wider.WIDTHS, (0.7, 0.9, 1.2, 1.4, 1.6, 1.7), strict=True))
    assert wider.statement(gains) == (
        "This job's model does not get faster with more ranks: two are 0.70 times as fast as one.\n"
        f"Two ranks beat one from about {wider.parameters(wider.WIDTHS[2]):,} parameters on.\n"
    )
    assert "None of these models does" in wider.statement(dict.fromkeys(wider.WIDTHS, 0.9))
    assert wider.statement(dict.fromkeys(wider.WIDTHS, 1.1)).startswith("Here two ranks are faster")
    assert wider.parameters(0) == 7850


def test_each_row_says_who_is_faster_and_by_how_much() -> None:
    names = {compare.JOB: (100.0, 2.0), "faster": (250.0, 1.0), "slower": (50.0, 3.0), "as fast": (101.0, 2.0)}
    entries = [compare.Entry(name, 1, [], [rate], [wall]) for name, (rate, wall) in names.items()]
    rows = [line.split(" | ") for line in compare.result(entries).splitlines()[2:]]
    assert [(row[1], row[5], row[6].rstrip(" |")) for row in rows] == [
        ("slower", "this job, 2.0 x", "this job, 1.5 x"),
        (compare.JOB, "", ""),
        ("as fast", "both", "both"),
        ("faster", "it, 2.5 x", "it, 2.0 x"),
    ]


def test_the_peers_and_the_floors_are_compared() -> None:
    alone = [entry.name for entry in compare.contestants("data", 1) if entry.ranks == 1]
    assert {"by hand in numpy", "scikit-learn SGDClassifier", "the tutorial's loop", compare.JOB} < {*alone}
