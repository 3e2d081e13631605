"""EMNIST by name: one split of the archive, upright, with letters as names of the classes."""

import gzip
import hashlib
import string
import zipfile
from pathlib import Path

import pytest
import torch

from src import schema
from src.data import dataset as data
from src.data import emnist
from src.data.emnist import KINDS
from src.data.splits import Spec
from src.errors import UserError
from src.world.world import World
from tests.helpers.data_sets import NOWHERE, write_idx
from tests.helpers.mirrors import mirror

DIGITS = tuple(string.digits)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small archive of all splits, which is expected as EMNIST's."""
    folder = tmp_path / "packed"
    folder.mkdir()
    with zipfile.ZipFile(folder / emnist.ARCHIVE, "w") as archive:
        for kind in KINDS.values():
            for names, count in ((kind.TRAIN, 300), (kind.TEST, 100)):
                labels = torch.arange(count) % len(kind._names) + kind._first
                pictures = torch.randint(0, 256, (count, 28, 28), generator=torch.Generator().manual_seed(count))
                for name, values in zip(names, (pictures, labels), strict=True):
                    write_idx(tmp_path / "unpacked" / name, values)
                    content = gzip.compress((tmp_path / "unpacked" / name).read_bytes(), 1)
                    archive.writestr(f"gzip/{name}.gz", content)
    digest = hashlib.md5((folder / emnist.ARCHIVE).read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(emnist, "MD5", digest)
    monkeypatch.setattr(emnist, "MIRRORS", (NOWHERE,))
    return folder


def settings(root: Path, name: str, *mirrors: str) -> schema.Data:
    return schema.Data(name=name, root=str(root), mirrors=list(mirrors), fallback="none")


def test_names_files_and_archive_are_torchvision_s() -> None:
    from torchvision import datasets

    theirs = datasets.EMNIST
    assert {f"emnist_{split}" for split in theirs.splits} == {*KINDS}
    assert f"{emnist.MIRRORS[0]}{emnist.ARCHIVE}" == theirs.url
    assert theirs.md5 == emnist.MD5
    for split, names in emnist.CLASSES.items():
        assert [name for name in theirs.classes_split_dict[split] if name != "N/A"] == list(names)


@pytest.mark.parametrize("name", KINDS)
def test_a_split_is_upright_and_its_classes_have_names(name: str, packed: Path, tmp_path: Path) -> None:
    loaded = data.load(settings(tmp_path / "root", name, str(packed)), World(), print)
    kind = KINDS[name]
    images = (tmp_path / "unpacked" / kind.TRAIN[0]).read_bytes()[16:]
    stored = torch.frombuffer(bytearray(images), dtype=torch.uint8).view(300, 28, 28)
    assert torch.equal(loaded.train.inputs[:], stored.transpose(1, 2)), "the files hold rows as columns"
    assert torch.equal(loaded.train.take(torch.tensor([7]))[0][0], stored[7].T)
    names = kind._names
    assert loaded.train.targets[:].tolist() == [at % len(names) for at in range(300)]
    assert (loaded.spec.classes, loaded.spec.names) == (len(names), () if names == DIGITS else names)
    assert len(loaded.test) == 100


def test_one_split_alone_is_unpacked_and_the_archive_fetched_once(packed: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with mirror(packed) as (url, asked):
        data.load(settings(root, "emnist_letters", url), World(), print)
        raw = root / "EMNIST" / "raw"
        visible = {file.name for file in raw.iterdir() if not file.name.startswith(".")}
        assert visible == {*KINDS["emnist_letters"].FILES, emnist.ARCHIVE, "SHA256SUMS"}
        (raw / KINDS["emnist_letters"].FILES[2]).unlink()
        data.load(settings(root, "emnist_letters", url), World(), print)
        data.load(settings(root, "emnist_digits", url), World(), print)
    assert asked == [emnist.ARCHIVE]


@pytest.mark.parametrize("way", ["truncated", "503"])
def test_a_damaged_archive_leaves_nothing(way: str, packed: Path, tmp_path: Path) -> None:
    with mirror(packed, way) as (url, _), pytest.raises(UserError) as error:
        data.load(settings(tmp_path / "root", "emnist_letters", url), World(), lambda _: None)
    assert str(error.value).startswith("data.name=emnist_letters: no mirror answers (")
    assert "name a folder or URL with gzip.zip: data.mirrors=[...]" in str(error.value)
    assert {file.name for file in (tmp_path / "root" / "EMNIST" / "raw").iterdir()} <= {".lock"}


def test_classes_are_known_by_name(packed: Path, tmp_path: Path) -> None:
    """A model of digits is measured on the digits of EMNIST, one of all letters too; another way round is a mistake."""
    root, mirrors = tmp_path / "root", str(packed)
    digits = data.load_test(settings(root, "emnist_digits", mirrors), Spec((28, 28), torch.uint8, 10), print)
    assert digits.test.targets[:].tolist() == [at % 10 for at in range(100)]
    backwards = Spec((28, 28), torch.uint8, 62, names=KINDS["emnist_byclass"]._names[::-1])
    digits = data.load_test(settings(root, "emnist_digits", mirrors), backwards, print)
    assert digits.test.targets[:].tolist() == [61 - at % 10 for at in range(100)]
    with pytest.raises(UserError, match=r"labels.*: holds the class a and 25 more; the model's classes are 0, 1, 2, 3"):
        data.load_test(settings(root, "emnist_letters", mirrors), Spec((28, 28), torch.uint8, 10), print)


def test_labels_that_the_split_does_not_have(packed: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path / "root", "emnist_letters", str(packed))
    data.load(chosen, World(), print)
    raw = tmp_path / "root" / "EMNIST" / "raw"
    (raw / "SHA256SUMS").unlink()
    write_idx(raw / KINDS["emnist_letters"].TRAIN[1], torch.arange(300) % 27)
    with pytest.raises(UserError, match=r"holds the label 0; the training labels are 1\.\.26"):
        data.load(chosen, World(), print)
