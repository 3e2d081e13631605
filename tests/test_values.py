"""Which values fit a setting, and what they become; the messages are in tests/test_config.py."""

import os
from typing import Any

import pytest

from src import values
from src.errors import UserError
from src.schema import KEYS


@pytest.mark.parametrize(
    ("name", "value", "objection"),
    [
        ("train.epochs", 3, ""),
        ("train.epochs", 3.0, "must be an integer"),
        ("train.epochs", True, "must be an integer"),
        ("train.epochs", 2**31, "must be below 2147483648"),
        ("optim.lr", 1, ""),
        ("optim.lr", float("inf"), "must be a number"),
        ("optim.betas", [0.9, 1], "must be below 1"),
        ("run.root", None, 'must be text; in YAML a bare ~ is nothing: write "~"'),
        ("run.root", "a\0b", "must be a path"),
        ("run.name", 7, ""),
        ("run.name", "a/b", "must be the name of a folder, not a path; run.root= says where it is"),
        ("track.tags", ["a", 2], ""),
        ("track.tags", "a", "must be a list such as [a,b]"),
    ],
)
def test_what_fits(name: str, value: Any, objection: str) -> None:
    assert values.objection(KEYS[name], value) == objection


def test_a_value_is_taken_in_the_setting_s_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def converted(name: str, value: Any) -> Any:
        return values.converted(KEYS[name], name, value)

    monkeypatch.setenv("HOME", os.sep + "home")
    assert repr(converted("optim.lr", 3)) == "3.0"
    assert converted("run.name", 7) == "7"
    assert converted("track.tags", ["a", 2]) == ["a", "2"]
    assert repr(converted("optim.betas", [0, 0.5])) == "[0.0, 0.5]"
    assert converted("run.root", "~/runs") == "/home/runs"
    assert converted("data.mirrors", ["~/a", "b"]) == ["/home/a", "b"]
    with pytest.raises(UserError, match=r"run\.root"):
        converted("run.root", "~nobody-of-this-name/runs")
