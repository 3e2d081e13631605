"""Numbers in the environment: whatever is there, a number or one line."""

import pytest

from src.errors import UserError
from src.launchers.variables import number, text, whole


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "1e3", "0x1", "\u00b2", "\u0663", "1 2", "9" * 5000])
def test_what_is_no_whole_number(value: str) -> None:
    assert whole(value) is None


def test_a_variable_s_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X", " 07 ")
    assert (text("X"), number("X", "unset it")) == ("07", 7)
    for nothing in ("", "  "):
        monkeypatch.setenv("X", nothing)
        assert number("X", "unset it") is None
    monkeypatch.setenv("X", "abc")
    with pytest.raises(UserError, match="X=abc: must be a whole number; unset it"):
        number("X", "unset it")
