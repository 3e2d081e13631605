"""The embedded text is the same bytes everywhere, its sums are right, and no sum of the test text is in the other."""

import hashlib
from pathlib import Path

import pytest

from src.data import sums
from src.errors import UserError


def lines(name: str) -> list[tuple[int, int, int]]:
    """(a, b, c) of each line a+b=c."""
    split = [line.replace("+", "=").split("=") for line in sums.texts()[name].splitlines()]
    return [(int(a), int(b), int(c)) for a, b, c in split]


def test_the_bytes_are_the_pinned_ones() -> None:
    assert {name: hashlib.sha256(text.encode()).hexdigest() for name, text in sums.texts().items()} == sums.SHA256


def test_each_line_is_a_right_sum_of_a_pair_that_is_in_one_text_alone() -> None:
    train, test = lines("train.txt"), lines("test.txt")
    assert all(a + b == c for a, b, c in train + test)
    pairs = [{frozenset((a, b)) for a, b, _ in split} for split in (train, test)]
    assert not pairs[0] & pairs[1], "in either order"
    assert len(pairs[0] | pairs[1]) == len(sums.NUMBERS) * (len(sums.NUMBERS) + 1) // 2
    assert len(pairs[1]) == sums.TEST_PAIRS
    assert len(set(test)) == len(test)
    assert {train.count(line) for line in train[:20]} == {sums.ROUNDS}


def test_what_is_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("mine")
    sums.write(tmp_path)
    assert (tmp_path / "train.txt").read_text() == "mine"
    assert hashlib.sha256((tmp_path / "test.txt").read_bytes()).hexdigest() == sums.SHA256["test.txt"]


def test_a_folder_that_cannot_be_written_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^data\.root: .* cannot be written \(.* is a file, not a folder\); name"):
        sums.write(tmp_path / "file" / "sums")
