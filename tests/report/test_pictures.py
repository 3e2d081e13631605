"""What the page shows of a model, packed: names of the classes that it shows, and bytes as text."""

import torch

from src.data.splits import Spec
from src.report import pictures


def test_bytes_are_readable() -> None:
    assert pictures.readable(b"37+45=82\n\xff\x00") == "37+45=82\n\ufffd\ufffd"
    assert pictures.readable("\u00e9".encode()) == "\u00e9"


def test_the_classes_that_are_shown_have_names() -> None:
    content: dict[str, object] = {"pairs": {"rows": [[900, 3, 2, 9]]}, "wrong": {"rows": [[7, 500, 600, 0.5]]}}
    content |= {"templates": None, "weights": None, "confusion": []}
    assert pictures.shown_classes(content) == {900, 3, 500, 600}
    assert pictures.shown_classes(content | {"weights": "packed"}) == {900, 3, 500, 600, *range(10)}
    spec = Spec((2, 2), torch.uint8, 1000, names=tuple(f"class {label}" for label in range(1000)))
    assert pictures.class_names(spec, {3, 900}) == {"3": "class 3", "900": "class 900"}
    assert pictures.class_names(Spec((2, 2), torch.uint8, 10), {3}) == {}
