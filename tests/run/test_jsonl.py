"""Files of one JSON object a line: no partial line survives a kill or a full disk."""

import resource
from pathlib import Path

import pytest

from src.errors import UserError
from src.run import jsonl
from src.run.jsonl import Lines
from tests.helpers.ranks import fork


def lines(file: Path) -> tuple[Lines, list[str]]:
    """A file of lines, and where its warnings go."""
    warnings: list[str] = []
    return Lines(file, warnings.append), warnings


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    assert list(jsonl.read(file)) == []
    written, _ = lines(file)
    for number in range(4):
        written.append(step=number, text="two\nlines")
    assert [line["step"] for line in jsonl.read(file)] == [0, 1, 2, 3]
    assert [line["step"] for line in jsonl.read(file, 2)] == [2, 3]
    assert file.read_text().count("\n") == 4


def test_half_a_line_is_not_read_and_is_cut_before_the_next(tmp_path: Path) -> None:
    """What kill -9 in the middle of a write leaves."""
    file = tmp_path / "x.jsonl"
    file.write_text('{"step": 1}\n{"ste')
    assert [line["step"] for line in jsonl.read(file)] == [1]
    written, _ = lines(file)
    written.append(step=2)
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_truncate_goes_back_to_a_position(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    written, _ = lines(file)
    written.append(step=1)
    position = written.position()
    assert position == file.stat().st_size
    written.append(step=2)
    again, _ = lines(file)
    again.truncate(position)
    again.append(step=3)
    assert [line["step"] for line in jsonl.read(file)] == [1, 3]


def test_truncate_beyond_the_end_adds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    written, _ = lines(file)
    written.append(step=1)
    before = file.read_bytes()
    written.truncate(10_000)
    assert file.read_bytes() == before


def test_what_a_full_disk_refuses_is_kept_and_written_later(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"

    def work() -> tuple[list[int], list[int], list[str]]:
        written, warnings = lines(file)
        written.append(step=1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 3, resource.RLIM_INFINITY))
        written.append(step=2)
        whole = [line["step"] for line in jsonl.read(file)]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        written.append(step=3)
        return whole, [line["step"] for line in jsonl.read(file)], warnings

    (found,) = fork(1, work, tmp_path).values
    whole, later, warnings = found
    assert whole == [1], "nothing half-written is left"
    assert later == [1, 2, 3]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{file}: ")
    assert warnings[0].endswith("kept in memory until it can be written")


@pytest.mark.parametrize("line", [b"rubbish\n", b"[]\n", b"3\n", b"\xff\xfe\n", b"{\n"])
def test_a_line_that_is_no_object_is_named(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(b"{}\n" + line)
    with pytest.raises(UserError, match=r"x\.jsonl: line 2 is damaged; remove that line"):
        list(jsonl.read(tmp_path / "x.jsonl"))
