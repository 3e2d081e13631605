"""What a check is asked about, and what it found: green, yellow or red, in one line, with the way out."""

from dataclasses import dataclass

from src.schema import Config


@dataclass(frozen=True)
class Plan:
    """The job that is going to run: its settings, as given and read, its ranks on this host, its other hosts."""

    settings: Config
    arguments: list[str]
    ranks: int
    nodes: list[str]
    seconds: float  # the longest that a check may take


@dataclass(frozen=True)
class Finding:
    """`colour` is green (well), yellow (the job runs, but perhaps not as one expects) or red (it does not)."""

    colour: str
    found: str
    fix: str = ""


def green(found: str) -> Finding:
    """All is well."""
    return Finding("green", found)


def yellow(found: str, fix: str = "") -> Finding:
    """The job runs, but not as one might expect."""
    return Finding("yellow", found, fix)


def red(found: str, fix: str = "") -> Finding:
    """The job will not run, or not well."""
    return Finding("red", found, fix)
