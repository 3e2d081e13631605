"""A .npz of arrays becomes the four files of data.name=idx."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from src.data import arrays, idx
from src.errors import UserError

PICTURES, LABELS = np.arange(48, dtype=np.uint8).reshape(3, 4, 4), np.array([0, 2, 1])


def write(folder: Path, **content: Any) -> Path:
    np.savez(folder / "set.npz", **content)
    return folder / "set.npz"


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("images", "labels", "test_images", "test_labels"),
        ("arr_0", "arr_1", "arr_2", "arr_3"),
    ],
)
def test_usual_names(names: tuple[str, ...], tmp_path: Path) -> None:
    content = dict(zip(names, (PICTURES, LABELS, PICTURES[:2], LABELS[:2]), strict=True))
    assert arrays.write(write(tmp_path, **content), tmp_path)
    train, test = idx.split_of(tmp_path / "IDX" / "raw", *idx.TRAIN), idx.split_of(tmp_path / "IDX" / "raw", *idx.TEST)
    assert (train.inputs[:].numpy() == PICTURES).all()
    assert (train.targets[:].tolist(), test.targets[:].tolist()) == ([0, 2, 1], [0, 2])


@pytest.mark.parametrize(
    ("inputs", "labels", "shape", "dtype"),
    [
        (np.zeros((3, 8, 9, 3), np.uint8), LABELS, (3, 3, 8, 9), torch.uint8),  # colours last
        (np.zeros((3, 3, 8, 9), np.uint8), LABELS[:, None], (3, 3, 8, 9), torch.uint8),
        (np.zeros((3, 8, 9, 1), np.uint8), LABELS, (3, 8, 9), torch.uint8),
        (np.zeros((3, 5), np.float16), LABELS, (3, 5), torch.float32),
        (np.full((3, 5), 300, np.uint16), LABELS, (3, 5), torch.int32),
        (np.zeros((3, 5), ">f8"), LABELS.astype(bool), (3, 5), torch.float64),
    ],
)
def test_shapes_and_types(inputs: Any, labels: Any, shape: Any, dtype: Any, tmp_path: Path) -> None:
    assert not arrays.write(write(tmp_path, x_train=inputs, y_train=labels), tmp_path)
    found = idx.split_of(tmp_path / "IDX" / "raw", *idx.TRAIN)
    assert (tuple(found.inputs.shape), found.inputs.dtype, found.targets.shape) == (shape, dtype, (3,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": PICTURES, "b": LABELS}, r"holds the arrays a, b; name them x_train, y_train, x_test, y_test"),
        (
            {"x_train": PICTURES, "y_train": LABELS, "x_test": PICTURES},
            r"holds the arrays x_train, y_train, x_test; na",
        ),
        ({"x_train": PICTURES, "y_train": LABELS[:2]}, r"x_train is \(3, 4, 4\), y_train \(2,\); both have a row"),
        ({"x_train": PICTURES[:0], "y_train": LABELS[:0]}, r"one at least"),
        ({"x_train": PICTURES, "y_train": np.array(["a", "b", "c"])}, r"y_train holds <U1; save it as uint8"),
        ({"x_train": PICTURES, "y_train": np.array([0, 2**40, 1])}, r"y_train holds int64; save it as"),
        ({"x_train": PICTURES, "y_train": np.array([None, 1, 2])}, r"is no \.npz that numpy can read \(Object arrays"),
    ],
)
def test_mistakes(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        arrays.write(write(tmp_path, **content), tmp_path)
    raw = tmp_path / "IDX" / "raw"
    assert not raw.exists() or {path.name for path in raw.iterdir()} <= {".lock"}


def test_no_archive_and_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(b"PK\3\4 and nothing more")
    with pytest.raises(UserError, match=r"is no \.npz"):
        arrays.write(tmp_path / "set.npz", tmp_path)
    arrays.write(write(tmp_path, x_train=PICTURES, y_train=LABELS), tmp_path)
    arrays.write(write(tmp_path, x_train=PICTURES, y_train=LABELS), tmp_path)
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte: is there already, with other numbers; move it away"):
        arrays.write(write(tmp_path, x_train=PICTURES + 1, y_train=LABELS), tmp_path)
