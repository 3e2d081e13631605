"""Parquet and Arrow files, in the layouts that Hugging Face writes."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from src.data import conversion, tables
from src.errors import UserError
from tests.helpers.images import encoded
from tests.helpers.picture_folders import CLASSES, drawn

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def table(count: int, names: bool = True, labels: list[Any] | None = None) -> Any:
    """Rows as `datasets` writes them: image = {bytes, path}, label = a number that the metadata names."""
    images = [{"bytes": encoded(drawn(CLASSES[at % 3], at)), "path": f"{at}.png"} for at in range(count)]
    rows = pa.table({"image": images, "label": labels or [at % 3 for at in range(count)], "note": ["x"] * count})
    features = {"label": {"names": list(CLASSES), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return rows.replace_schema_metadata(metadata) if names else rows


def write_stream(file: Path, rows: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=4)


def hub(folder: Path) -> Path:
    """A data set of two training files and a validation file, in row groups of 4."""
    (folder / "data").mkdir(parents=True)
    parquet.write_table(table(10), folder / "data" / "train-00000-of-00002.parquet", row_group_size=4)
    parquet.write_table(table(7), folder / "data" / "train-00001-of-00002.parquet", row_group_size=4)
    parquet.write_table(table(5), folder / "data" / "validation-00000-of-00001.parquet")
    return folder


def saved(folder: Path) -> Path:
    """What datasets.DatasetDict.save_to_disk leaves."""
    for split, count in (("train", 10), ("test", 5)):
        write_stream(folder / split / "data-00000-of-00001.arrow", table(count))
        (folder / split / "state.json").write_text("{}")
    (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    return folder


def content(pictures: Any, start: int, stop: int) -> list[bytes]:
    return [source.getvalue() for source in pictures.sources(start, stop)]


@pytest.mark.parametrize(("make", "counts"), [(hub, (17, 5)), (saved, (10, 5))])
def test_the_layouts_of_hugging_face(make: Any, counts: tuple[int, int], tmp_path: Path) -> None:
    found = tables.rows(make(tmp_path / "set"))
    assert {split: len(pictures) for split, pictures in found.items()} == dict(
        zip(("train", "test"), counts, strict=True)
    )
    train = found["train"]
    assert train.classes == CLASSES
    assert list(train.labels[:4]) == [0, 1, 2, 0]
    assert content(train, 3, 9) == [encoded(drawn(CLASSES[at % 3], at)) for at in range(3, 9)]
    conversion.convert(train, tmp_path / "out" / "train", 0, None, print)
    assert conversion.shape_of(tmp_path / "out" / "train") == (3, 12, 12)


def test_rows_are_named_by_file_and_place(tmp_path: Path) -> None:
    train = tables.rows(hub(tmp_path))["train"]
    assert train.name(9) == f"{tmp_path}/data/train-00000-of-00002.parquet: row 9"
    assert train.name(12) == f"{tmp_path}/data/train-00001-of-00002.parquet: row 2"
    assert content(train, 8, 12) == [encoded(drawn(CLASSES[at % 3], at)) for at in (8, 9, 0, 1)]


def test_threads_read_beside_each_other(tmp_path: Path) -> None:
    train = tables.rows(hub(tmp_path))["train"]
    found: dict[int, list[bytes]] = {}
    threads = [
        threading.Thread(target=lambda at=at: found.update({at: content(train, at, at + 1)})) for at in range(17)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[at] == content(train, at, at + 1) for at in range(17))


def test_plain_bytes_text_labels_and_one_file(tmp_path: Path) -> None:
    pictures = [encoded(drawn("red", at)) for at in range(3)]
    parquet.write_table(pa.table({"picture": pictures, "kind": ["b", "a", "b"]}), tmp_path / "set.parquet")
    train = tables.rows(tmp_path / "set.parquet")["train"]
    assert (train.classes, list(train.labels), content(train, 0, 3)) == (("a", "b"), [1, 0, 1], pictures)


def test_files_named_in_place_of_bytes(tmp_path: Path) -> None:
    drawn("red", 0).save(tmp_path / "a.png")
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = pa.table({"image": pa.array([{"bytes": None, "path": "a.png"}], kind), "label": [12]})
    with pa.OSFile(str(tmp_path / "one.arrow"), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    train = tables.rows(tmp_path / "one.arrow")["train"]
    assert (train.classes, train.sources(0, 1)) == (("12",), [tmp_path / "a.png"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": [1], "b": [2]}, r"has no one column of pictures \(bytes, .*: a \(int64\), b \(int64\); name it image"),
        ({"image": [b"x"], "a": [1], "b": [2]}, r"has no one column of labels .*; name it label"),
        ({"image": [b"x"], "label": [-1]}, r"row 0 has no label \(column label\); leave this split out"),
    ],
)
def test_mistakes(rows: dict[str, Any], message: str, tmp_path: Path) -> None:
    parquet.write_table(pa.table(rows), tmp_path / "set.parquet")
    with pytest.raises(UserError, match=message):
        tables.rows(tmp_path / "set.parquet")


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "set.parquet").write_bytes(b"text")
    with pytest.raises(UserError, match="cannot be read"):
        tables.rows(tmp_path / "set.parquet")
    (tmp_path / "set.parquet").rename(tmp_path / "test.parquet")
    with pytest.raises(UserError, match="holds no training files"):
        tables.rows(tmp_path)
    assert tables.files_of(tmp_path / "none") == {"train": [tmp_path / "none"]}
