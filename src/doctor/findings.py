"""The input of a check (Plan) and its result (Finding): green, yellow or red, one line, and a fix."""

from dataclasses import dataclass

from src.schema import Config


@dataclass(frozen=True)
class Plan:
    """The job that is going to run.

    `arguments` are the settings of the command line, `settings` what they mean; `ranks` is the number of ranks on this
    host, `nodes` the names of the other hosts, `seconds` the longest time that a check may take. With `checksums` those
    of the data set are computed anew, also where they are remembered.
    """

    settings: Config
    arguments: list[str]
    ranks: int
    nodes: list[str]
    seconds: float
    checksums: bool = False


@dataclass(frozen=True)
class Finding:
    """`colour` is green (no problem), yellow (the job runs, perhaps not as expected) or red (it fails)."""

    colour: str
    message: str
    fix: str = ""


def green(message: str) -> Finding:
    """No problem."""
    return Finding("green", message)


def yellow(message: str, fix: str = "") -> Finding:
    """The job runs, perhaps not as expected."""
    return Finding("yellow", message, fix)


def red(message: str, fix: str = "") -> Finding:
    """The job fails, or runs badly."""
    return Finding("red", message, fix)
