"""The pages of figures: text by hand, and sections that the bench commands replace."""

import platform
import re
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

NAMES = ("benchmarks.md", "ranks.md", "memory.md", "gpus.md")
PAGES = [Path(__file__).parent.parent.parent / "docs" / name for name in NAMES]


def write(section: str, text: str) -> None:
    """Replace what stands between the section's marks, on the page that has it, and print it."""
    print(text)
    begin, end = f"<!-- {section} -->\n", f"<!-- end of {section} -->"
    for page in PAGES:
        if begin in (before := page.read_text()):
            page.write_text(re.sub(f"{begin}.*?{end}", lambda _: begin + text + end, before, flags=re.DOTALL))
            return
    raise SystemExit(f"no page in docs/ has a section {section}")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def counted(number: int, thing: str, plural: str = "s") -> str:
    """ "1 turn", "3 turns"."""
    return f"{number} {thing}{'' if number == 1 else plural}"


def conditions(what: str) -> str:
    """Machine, versions and date, in a line."""
    return f"{date.today()}; {processor()}; {versions()}; {what}.\n\n"


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
