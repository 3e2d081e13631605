"""A check that hangs or fails takes none of the others with it."""

import time

import pytest

from src.doctor import __main__ as doctor
from src.doctor import examination
from src.doctor.examination import CHECKS, Check
from src.doctor.findings import Plan, green
from src.errors import JobFailed, UserError
from tests.helpers.plans import planned


def test_the_command_knows_the_names_of_all_checks() -> None:
    assert list(CHECKS) == list(doctor.NAMES)


def hangs(_: Plan) -> None:
    time.sleep(3600)


def fails(_: Plan) -> None:
    raise ZeroDivisionError("by nothing")


def says(_: Plan) -> None:
    raise JobFailed("this is; that was")


def advises(_: Plan) -> None:
    raise UserError("this is; that was", fix="do so")


def test_a_check_that_hangs_or_raises_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = {
        "hangs": Check(hangs, "wake it"),  # type: ignore[arg-type]
        "fails": Check(fails),  # type: ignore[arg-type]
        "says": Check(says),  # type: ignore[arg-type]
        "advises": Check(advises),  # type: ignore[arg-type]
        "works": Check(lambda _: green("well")),
    }
    monkeypatch.setattr(examination, "CHECKS", checks)
    found = dict(examination.examine(planned(seconds=0.5), list(checks)))
    assert {name: finding.colour for name, finding in found.items()} == {
        "hangs": "red",
        "fails": "red",
        "says": "red",
        "advises": "red",
        "works": "green",
    }
    assert (found["hangs"].message, found["hangs"].fix) == ("no answer within 0.5 s", "wake it")
    assert found["fails"].message == "ZeroDivisionError: by nothing"
    assert (found["says"].message, found["says"].fix) == ("this is; that was", "")
    assert (found["advises"].message, found["advises"].fix) == ("this is; that was", "do so")
