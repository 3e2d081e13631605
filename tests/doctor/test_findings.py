"""A finding: a colour, a sentence and a fix."""

import dataclasses

import pytest

from src.doctor import examination
from src.doctor.findings import Finding, green, red, yellow


def test_the_colours() -> None:
    assert green("well") == Finding("green", "well", "")
    assert yellow("slow", "fewer ranks") == Finding("yellow", "slow", "fewer ranks")
    assert red("broken") == Finding("red", "broken", "")


def test_a_finding_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        green("well").colour = "red"  # type: ignore[misc]


def test_a_finding_as_a_line() -> None:
    assert examination.line("disk", green("room"), coloured=False).split() == ["green", "disk", "room"]
    line = examination.line("disk", red("1 MB free", "rm -r old"), coloured=False)
    assert line.endswith("1 MB free  -> rm -r old")
    assert examination.line("disk", red("x"), coloured=True).startswith("\x1b[31mred   \x1b[0m")
