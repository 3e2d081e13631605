"""A .npz of arrays as the four files of data.name=idx."""

import filecmp
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src import files
from src.data import folders, idx
from src.errors import UserError

# What others call the arrays, the usual names first.
NAMES = {
    "train inputs": ("x_train", "X_train", "train_images", "train_x", "images", "x", "X", "data", "arr_0"),
    "train labels": ("y_train", "train_labels", "train_y", "labels", "y", "targets", "target", "arr_1"),
    "test inputs": ("x_test", "X_test", "test_images", "test_x", "arr_2"),
    "test labels": ("y_test", "test_labels", "test_y", "arr_3"),
}
AT_ONCE = 1 << 24  # bytes turned round and written at once


def write(source: Path, root: Path) -> bool:
    """Write the arrays into root/IDX/raw; returns whether there is a test set. Raises UserError."""
    raw = root / "IDX" / "raw"
    try:
        with np.load(source, allow_pickle=False) as content:
            pairs = _pairs(source, content)
            with folders.writing(raw), folders.alone(raw, folders.say) as shared:
                for (inputs, labels), names in zip(pairs, (idx.TRAIN, idx.TEST), strict=False):
                    samples, targets = _fitting(source, inputs, content[inputs], labels, content[labels])
                    _save(raw / names[0], samples, shared)
                    _save(raw / names[1], targets, shared)
    except (ValueError, EOFError, zipfile.BadZipFile, OSError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source}: is no .npz that numpy can read ({' '.join(str(error).split())[:200]})") from None
    return len(pairs) > 1


def _pairs(source: Path, content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name of the inputs, name of the labels) of the training and, where it is there, of the test set."""
    chosen = {part: next((name for name in names if name in content), "") for part, names in NAMES.items()}
    training, test = (chosen["train inputs"], chosen["train labels"]), (chosen["test inputs"], chosen["test labels"])
    if not all(training) or any(test) != all(test):
        raise UserError(
            f"{source}: holds the arrays {', '.join(content) or 'none'}",
            fix="name them x_train, y_train, x_test, y_test; or train_images, train_labels, test_images, test_labels",
        )
    return [training, test] if all(test) else [training]


def _fitting(source: Path, inputs: str, samples: Any, labels: str, targets: Any) -> tuple[Any, Any]:
    """The arrays in IDX's types. Raises UserError."""
    if samples.ndim == 0 or targets.ndim == 0 or len(samples) != len(targets) or len(samples) == 0:
        shapes = f"{inputs} is {samples.shape}, {labels} {targets.shape}"
        raise UserError(f"{source}: {shapes}", fix="both have a row for each sample, one at least")
    if (
        samples.dtype == np.uint8
        and samples.ndim == 4
        and samples.shape[3] in (1, 3)
        and samples.shape[1] not in (1, 3)
    ):
        samples = samples.transpose(0, 3, 1, 2)  # colours last, as files have them; models take them first
    if samples.ndim == 4 and samples.shape[1] == 1 and samples.dtype == np.uint8:
        samples = samples[:, 0]
    if targets.ndim == 2 and targets.shape[1] == 1 and targets.dtype.kind in "iub":
        targets = targets[:, 0]
    return _typed(source, inputs, samples), _typed(source, labels, targets)


def _typed(source: Path, name: str, array: Any) -> NDArray[Any]:
    """The array in a type that IDX files have. Raises UserError for one that does not fit."""
    kinds = {np.dtype(kind).newbyteorder("="): kind for kind in idx.TYPES.values()}
    if array.dtype.newbyteorder("=") in kinds:
        return array  # type: ignore[no-any-return]
    if array.dtype.kind == "b":
        return array.astype(np.uint8)  # type: ignore[no-any-return]
    if array.dtype == np.float16:
        return array.astype(np.float32)  # type: ignore[no-any-return]
    if array.dtype.kind in "iu":
        low, high = int(array.min()), int(array.max())
        if low >= 0 and high < 256:
            return array.astype(np.uint8)  # type: ignore[no-any-return]
        if low >= -(2**31) and high < 2**31:
            return array.astype(np.int32)  # type: ignore[no-any-return]
    raise UserError(f"{source}: {name} holds {array.dtype}", fix="save it as uint8, int32, float32 or float64")


def _save(file: Path, array: NDArray[Any], shared: bool) -> None:
    """Write an IDX file, whole or not at all. Raises OSError, and UserError for one that is there and differs."""
    dtype = array.dtype.newbyteorder("=")
    kind = next(kind for kind, name in idx.TYPES.items() if np.dtype(name).newbyteorder("=") == dtype)
    rows = max(1, AT_ONCE // max(1, array[:1].nbytes))
    with files.whole(file, shared) as temporary, temporary.open("wb") as stream:
        stream.write(idx.header(array.shape, kind))
        for at in range(0, len(array), rows):
            stream.write(np.ascontiguousarray(array[at : at + rows], idx.TYPES[kind]).tobytes())
        stream.flush()
        if file.exists() and not filecmp.cmp(temporary, file, shallow=False):
            raise UserError(f"{file}: is there already, with other numbers", fix="move it away, or name another --to")
