"""docs/benchmarks.md: text by hand, and sections that the bench commands replace."""

import platform
import re
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "docs" / "benchmarks.md"


def write(section: str, text: str) -> None:
    """Replace what stands between the section's marks, and print it."""
    print(text)
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->"
    page = PAGE.read_text()
    if begin not in page:
        raise SystemExit(f"{PAGE.name} has no section {section}")
    PAGE.write_text(re.sub(f"{begin}.*?{end}", lambda _: begin + text + end, page, flags=re.DOTALL))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def listed(what: str, rows: list[list[str]]) -> str:
    """A table that is too small for one, as a sentence: of each row its name and its values."""
    return f"{what}: " + "; ".join(f"{name} {' / '.join(values)}" for name, *values in rows) + ".\n"


def conditions(what: str, end: str = "\n\n") -> str:
    """Machine, versions and date, in a line."""
    return f"{date.today()}; {processor()}; {versions()}; {what}.{end}"


def processor() -> str:
    """The processor's name and how many of its threads this machine has."""
    text = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", text)
    return f"{len(re.findall('^processor', text, re.MULTILINE))} cores of {name[1] if name else platform.machine()}"


def versions() -> str:
    """Python's, and of the packages that matter here."""
    found = [f"Python {platform.python_version()}"]
    for package in ("torch", "torchvision", "accelerate", "lightning", "scikit-learn"):
        try:
            found.append(f"{package} {version(package).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
