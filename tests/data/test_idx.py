"""IDX files: mapped bytes of any shape, numbers of other types, and what is none."""

from pathlib import Path

import numpy as np
import pytest
import torch

from src import schema
from src.data import idx
from src.data.splits import Spec
from src.errors import UserError
from tests.helpers.data_sets import write_idx


def test_bytes_of_any_shape_are_mapped(tmp_path: Path) -> None:
    for shape in ((7,), (5, 3), (4, 3, 6, 2)):
        values = torch.randint(0, 256, shape, dtype=torch.uint8)
        write_idx(tmp_path / "x", values)
        assert torch.equal(idx.read(tmp_path / "x")[:], values)
    found = idx.read(tmp_path / "x")[:]
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
    found = idx.read(tmp_path / "x")[:]
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


def test_numbers_of_several_bytes_are_mapped_too(tmp_path: Path) -> None:
    values = torch.arange(30, dtype=torch.float32).view(5, 2, 3)
    write_idx(tmp_path / "x", values)
    found = idx.read(tmp_path / "x")
    with (tmp_path / "x").open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(np.array([7.5], ">f4").tobytes())
    values[-1, -1, -1] = 7.5
    assert torch.equal(found[[4, 0]], values[[4, 0]]), "the file is mapped, not read"


def test_whole_numbers_of_one_dimension_are_classes(tmp_path: Path) -> None:
    write_idx(tmp_path / "x", torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
    write_idx(tmp_path / "y", torch.tensor([0, 6, 2, 2], dtype=torch.uint8))
    made = idx.split_of(tmp_path, "x", "y")
    assert (made.inputs.dtype, made.targets.dtype) == (torch.uint8, torch.int64)


def written(folder: Path, train: list[float], test: list[float], dtype: torch.dtype) -> None:
    for files, labels in ((idx.TRAIN, train), (idx.TEST, test)):
        write_idx(folder / files[0], torch.zeros(len(labels), 3))
        write_idx(folder / files[1], torch.tensor(labels, dtype=dtype))


@pytest.mark.parametrize(
    ("labels", "dtype", "names"),
    [
        ([0, 1, 2, 1], torch.uint8, ()),
        ([0, 1, 2, 1], torch.int32, ()),
        ([1, 3, 2, 1], torch.uint8, ("1", "2", "3")),
        ([0, 9, 4, 9], torch.int8, ("0", "4", "9")),
        ([-1, 1, 1, 1], torch.int8, ("-1", "1")),
        ([300, 0, 32000, 300], torch.int16, ("0", "300", "32000")),
        ([300, 0, 2**31 - 1, 300], torch.int32, ("0", "300", "2147483647")),
    ],
)
def test_labels_of_any_kind_are_mapped_to_classes(
    labels: list[float], dtype: torch.dtype, names: tuple[str, ...], tmp_path: Path
) -> None:
    written(tmp_path, labels, labels[::-1], dtype)
    train, spec = idx.train(tmp_path, schema.Data())
    test = idx.test(tmp_path, schema.Data(), spec)
    ordered = sorted({*labels})
    assert (spec.classes, spec.names) == (len(ordered), names)
    assert train.targets[:].tolist() == [ordered.index(label) for label in labels]
    assert test.targets[:].tolist() == [ordered.index(label) for label in labels[::-1]]
    assert train.targets.dtype == torch.int64
    assert [float(spec.name(int(label))) for label in train.targets[:]] == labels


@pytest.mark.parametrize("shape", [(4, 0), (4, 3, 0, 2)])
def test_samples_without_numbers_are_named(shape: tuple[int, ...], tmp_path: Path) -> None:
    write_idx(tmp_path / "x", torch.zeros(shape, dtype=torch.uint8))
    write_idx(tmp_path / "y", torch.tensor([0, 1, 0, 1], dtype=torch.uint8))
    with pytest.raises(UserError, match=r"/x: holds 4 samples of the shape \(.*0.*\): no numbers"):
        idx.split_of(tmp_path, "x", "y")


@pytest.mark.parametrize("labels", [[0.5, 1, 2, 1], [1, 2, 3, 1]])
def test_floats_are_no_classes(labels: list[float], tmp_path: Path) -> None:
    written(tmp_path, labels, labels, torch.float32)
    train, spec = idx.train(tmp_path, schema.Data())
    assert (spec.classes, spec.names) == (0, ())
    assert train.targets[:].tolist() == labels
    assert idx.test(tmp_path, schema.Data(), spec).targets[:].tolist() == labels


def test_a_test_label_that_no_training_sample_has(tmp_path: Path) -> None:
    written(tmp_path, [1, 3, 5, 3], [3, 2, 9, 1], torch.uint8)
    _, spec = idx.train(tmp_path, schema.Data())
    with pytest.raises(UserError, match=r"t10k.*: holds the label 2 and 1 more; the training labels are 1, 3, 5: a"):
        idx.test(tmp_path, schema.Data(), spec)


def test_a_model_of_before_has_its_labels_as_classes(tmp_path: Path) -> None:
    """Its spec has no names, and a class for each number up to the largest."""
    written(tmp_path, [0, 4], [2, 4], torch.uint8)
    assert idx.test(tmp_path, schema.Data(), Spec((3,), torch.float32, 5)).targets[:].tolist() == [2, 4]
    words = Spec((3,), torch.float32, 5, names=("a", "b", "c", "d", "e"))
    assert idx.test(tmp_path, schema.Data(), words).targets[:].tolist() == [2, 4]


def test_files_of_different_lengths_are_named(tmp_path: Path) -> None:
    write_idx(tmp_path / "x", torch.zeros(4, 3))
    write_idx(tmp_path / "y", torch.zeros(3))
    with pytest.raises(UserError, match="x holds 4 samples, y 3 labels"):
        idx.split_of(tmp_path, "x", "y")
