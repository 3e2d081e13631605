"""YAML in which text stays text, whatever it is made of."""

import random

import pytest
from omegaconf import OmegaConf
from yaml import YAMLError

from src import yaml_text

PIECES = (
    "\\",
    "$",
    "{",
    "}",
    "${",
    "a",
    ":",
    "oc.env:",
    "HOME",
    " ",
    '"',
    "'",
    "\n",
    "#",
    "\u00e9",
    ",",
    "[",
    "?",
    "1e3",
)


def test_any_text_reads_back_by_us_and_by_omegaconf() -> None:
    draws = random.Random(5)
    for _ in range(3000):
        text = "".join(draws.choices(PIECES, k=draws.randrange(9)))
        written = yaml_text.write({"value": text})
        read = yaml_text.read(written)["value"]
        known = OmegaConf.create({"value": yaml_text.only_environment(read)}).value if "${" in read else read
        assert known == text, written
        assert OmegaConf.create(written).value == text, written


@pytest.mark.parametrize(
    "value", [3, 3.0, 1e22, 1e-9, True, None, [], ["a", "b"], "3", "3.0", "1e3", "null", "2020-01-01"]
)
def test_a_value_keeps_its_type(value: object) -> None:
    read = yaml_text.read(yaml_text.write({"value": value}))["value"]
    assert (type(read), read) == (type(value), value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1e-3", 0.001),
        ("a: [http://h/?x=1,~/b]", ["http://h/?x=1", "~/b"]),
        ("a: 2020-01-01", "2020-01-01"),
        ("a: &x b\nc: *x", "b"),
        ('a: "\\udcff"', "\udcff"),
    ],
)
def test_what_is_read(text: str, value: object) -> None:
    assert yaml_text.read(text)["a"] == value


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: [", "a: {b: 1, b: 2}", "a: !!python/object:os.system x", "\x01"])
def test_what_is_no_yaml_of_ours(text: str) -> None:
    with pytest.raises(YAMLError):
        yaml_text.read(text)
