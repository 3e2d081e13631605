"""The bench's own words; its figures are taken by `make bench` and `make scale`."""

import re

from tests.bench import wider
from tests.bench.page import PAGE
from tests.helpers.ranks import ROOT


def test_every_section_that_is_written_has_its_place() -> None:
    scripts = "".join(file.read_text() for file in (ROOT / "tests" / "bench").glob("*.py"))
    commands = (ROOT / "Makefile").read_text()
    sections = re.findall(r'write\("([\w ]+)"', scripts) + re.findall(r'--section="([\w ]+)"', commands) + ["peers"]
    assert {"scale", "wider", "profile", "tracking", "growth", "ten epochs", "peers", "start", "restart"} == set(
        sections
    )
    page = PAGE.read_text()
    for section in sections:
        assert page.count(f"<!-- {section} -->") == page.count(f"<!-- end of {section} -->") == 1


def test_what_wider_models_say() -> None:
    gains = dict(zip(wider.WIDTHS, (0.7, 0.9, 1.2, 1.4, 1.6), strict=True))
    assert wider.statement(gains) == (
        "This job's model does not get faster with more ranks: two are 0.70 times as fast as one.\n"
        f"At this batch size, two ranks beat one from about {wider.parameters(wider.WIDTHS[2]):,} parameters on.\n"
    )
    assert "None of these models does" in wider.statement(dict.fromkeys(wider.WIDTHS, 0.9))
    assert wider.statement(dict.fromkeys(wider.WIDTHS, 1.1)).startswith("Here two ranks are faster")
    assert wider.parameters(0) == 7850
