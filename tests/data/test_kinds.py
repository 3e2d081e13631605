"""Which kind of files a data set has, where they are, and which are missing."""

from pathlib import Path

import pytest

from src import schema
from src.data import idx, image_folder, kinds, text
from tests.helpers.data_sets import write_data_set


@pytest.mark.parametrize("name", schema.KEYS["data.name"].metadata["choices"])
def test_every_data_set_has_a_kind_and_a_folder(name: str, tmp_path: Path) -> None:
    settings = schema.Data(name=name, root=str(tmp_path))
    kind = kinds.kind_of(settings)
    assert kind.FILES == kind.TRAIN + kind.TEST
    assert kinds.folder(settings).is_relative_to(tmp_path)
    assert kinds.missing(settings) == list(kind.FILES)
    assert kinds.rendered(settings) in ("digits", "sums")


def test_own_data_may_be_without_a_test_set(tmp_path: Path) -> None:
    settings = schema.Data(name="idx", root=str(tmp_path))
    raw = tmp_path / "IDX" / "raw"
    write_data_set(raw, 20, 10)
    assert kinds.has_test(settings)
    (raw / idx.TEST[0]).unlink()
    assert kinds.has_test(settings), "half of one is a mistake, not a choice"
    (raw / idx.TEST[1]).unlink()
    assert not kinds.has_test(settings)
    assert kinds.has_test(schema.Data(name="mnist", root=str(tmp_path))), "it is fetched"
    assert not kinds.has_test(schema.Data(name="folder", root=str(tmp_path)))


def test_a_text_may_be_a_folder_of_documents(tmp_path: Path) -> None:
    settings = schema.Data(name="text", root=str(tmp_path))
    (tmp_path / "text" / "train").mkdir(parents=True)
    for name in ("b.txt", "a.txt"):
        (tmp_path / "text" / "train" / name).write_text("text")
    assert kinds.kind_of(settings) is text
    assert kinds.missing(settings) == ["test.txt"]
    assert kinds.names_of(settings, text.TRAIN) == ("train/a.txt", "train/b.txt")
    assert kinds.kind_of(schema.Data(name="folder")) is image_folder
