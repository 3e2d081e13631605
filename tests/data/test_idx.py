"""IDX files: mapped bytes of any shape, numbers of other types, and what is none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from src.data import idx
from src.errors import UserError
from tests.helpers.data_sets import write_idx


def test_bytes_of_any_shape_are_mapped(tmp_path: Path) -> None:
    for shape in ((7,), (5, 3), (4, 3, 6, 2)):
        values = torch.randint(0, 256, shape, dtype=torch.uint8)
        write_idx(tmp_path / "x", values)
        assert torch.equal(idx.read(tmp_path / "x"), values)
    found = idx.read(tmp_path / "x")
    content = bytearray((tmp_path / "x").read_bytes())
    content[-1] ^= 255
    with (tmp_path / "x").open("r+b") as stream:
        stream.write(content)
    assert int(found.flatten()[-1]) == content[-1], "the file is mapped, not read"


@pytest.mark.parametrize(("kind", "dtype"), [(0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_other_types_are_turned_into_this_machine_s_order(kind: int, dtype: str, tmp_path: Path) -> None:
    values = np.array([[1, -2, 3], [100, -100, 7]], dtype)
    header = bytes((0, 0, kind, 2)) + (2).to_bytes(4, "big") + (3).to_bytes(4, "big")
    (tmp_path / "x").write_bytes(header + values.tobytes())
    found = idx.read(tmp_path / "x")
    assert found.tolist() == values.tolist()
    assert found.numpy().dtype.itemsize == values.dtype.itemsize


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x00\x08", b"PK\x08\x01", b"\x00\x00\x07\x01\x00\x00\x00\x00", b"\x00\x00\x08\x02\x00\x00"]
)
def test_what_is_no_idx_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match=r"x: is no IDX file"):
        idx.read(tmp_path / "x")


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    write_idx(tmp_path / "x", torch.zeros(10, dtype=torch.uint8))
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"is 17 bytes long, its header says 18: truncated or damaged"):
        idx.read(tmp_path / "x")


def test_whole_numbers_of_one_dimension_are_classes(tmp_path: Path) -> None:
    write_idx(tmp_path / "x", torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
    write_idx(tmp_path / "y", torch.tensor([0, 6, 2, 2], dtype=torch.uint8))
    made = idx.split_of(tmp_path, "x", "y")
    assert (made.inputs.dtype, made.targets.dtype) == (torch.uint8, torch.int64)


def test_files_of_different_lengths_are_named(tmp_path: Path) -> None:
    write_idx(tmp_path / "x", torch.zeros(4, 3))
    write_idx(tmp_path / "y", torch.zeros(3))
    with pytest.raises(UserError, match="x holds 4 samples, y 3 labels"):
        idx.split_of(tmp_path, "x", "y")
