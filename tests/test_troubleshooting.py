"""docs/troubleshooting.md: its messages are those that are printed, and the README's ten rows are among its topics."""

import re

import pytest

from tests.helpers.ranks import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
FILES = [file for folder in ("src", "launch") for file in sorted((ROOT / folder).rglob("*.*")) if file.suffix != ".pyc"]
# A message may be several strings, one a line.
SOURCE = re.sub(r'"\s*\n\s*f?"', "", "".join(file.read_text() for file in FILES if file.suffix != ".png"))
ROWS = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
# Printed by Python, torchrun or the system, or no message.
OTHERS = (
    *("No module named", "No space left on device", "SignalException", "nohup torchrun", "TERM", "dumb", "caf"),
    *("torchelastic_*", "runs/DATA-FINGERPRINT-TRIAL", "BY_STATUS", "MAX_REQUEUES", "${", "Connection refused"),
    *("Disk quota exceeded", "training-job-*"),
)


def messages() -> list[str]:
    """What the first column quotes, without what is printed by others."""
    quoted = [text for row in ROWS for text in re.findall(r"`([^`]+)`", row[0])]
    return [text for text in quoted if not text.startswith(OTHERS)]


@pytest.mark.parametrize("message", messages())
def test_a_message_is_printed(message: str) -> None:
    """Its longest stretch of words without a number or a name stands in the source."""
    words = message.removeprefix("error: ").removeprefix("warning: ").split()
    stretches = [
        " ".join(words[first:last]) for first in range(len(words)) for last in range(first + 1, len(words) + 1)
    ]
    found = max((stretch for stretch in stretches if stretch.strip(".;,:`") in SOURCE), key=len, default="")
    assert len(found) >= min(8, len(message) // 5), found


def test_every_section_has_rows() -> None:
    for section in PAGE.split("\n## ")[1:]:
        assert section.count("\n| ") >= 3, section.splitlines()[0]


def test_the_readme_keeps_ten_rows() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("## When something is wrong")[2].partition("\n## ")[0]
    assert table.count("\n| ") == 10 + 2
    assert "(docs/troubleshooting.md)" in readme
