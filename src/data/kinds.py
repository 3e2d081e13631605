"""The kinds of files that data sets are made of, which one a data set has, and where its files are."""

from pathlib import Path
from typing import Any, Protocol

from src import schema
from src.data import emnist, folders, idx, text
from src.data.splits import Spec, Split

# The folder of each data set below data.root; those of torchvision are named after its classes.
FOLDERS = {
    "mnist": "MNIST/raw",
    "fashion_mnist": "FashionMNIST/raw",
    "kmnist": "KMNIST/raw",
    "digits": "digits/raw",
    "idx": "IDX/raw",
    "text": "text",
    "sums": "sums",
    "folder": "converted",
} | dict.fromkeys(emnist.KINDS, "EMNIST/raw")


class Kind(Protocol):
    """A kind of files, each a module of this folder: how a data set of it lies on the disk, and how it is read."""

    TRAIN: tuple[str, ...]
    TEST: tuple[str, ...]
    FILES: tuple[str, ...]

    def train(self, folder: Path, settings: schema.Data) -> tuple[Split, Spec]:
        """The training samples, mapped. Raises UserError for files that are none of this kind or do not fit."""

    def test(self, folder: Path, settings: schema.Data, spec: Spec) -> Split:
        """The test samples, mapped, of the kind that `spec` says. Raises UserError."""

    def assumed(self, settings: schema.Data) -> Spec:
        """The shape and type that a data set is taken to have while its files are missing."""


def kind_of(settings: schema.Data) -> Kind:
    """The kind of files that the data set has."""
    if settings.name == "folder":
        kind: Kind = pictures()
        return kind
    if settings.name in schema.TEXTS:
        return text
    return emnist.KINDS.get(settings.name, idx)


def rendered(settings: schema.Data) -> str:
    """The name of the data set of the same kind that the job renders itself."""
    return "sums" if settings.name in schema.TEXTS else "digits"


def folder(settings: schema.Data, spec: Spec | None = None) -> Path:
    """Where the raw files of the data set are; `spec` is of a model trained on other data, where one is measured."""
    if settings.name == "folder":
        return Path(pictures().folder_of(settings, spec))
    return Path(settings.root) / FOLDERS[settings.name]


def missing(settings: schema.Data, wanted: tuple[str, ...] = ()) -> list[str]:
    """The names of the raw files, or of those wanted, that are not there. Raises UserError where one may not look."""
    absent = folders.absent(folder(settings), wanted or kind_of(settings).FILES)
    if settings.name != "text":
        return absent
    return [name for name in absent if text.documents(folder(settings), name) == (name,)]


def names_of(settings: schema.Data, wanted: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The raw files, or those wanted, with the documents of a text's folder in its place. Raises UserError."""
    wanted = wanted or kind_of(settings).FILES
    if settings.name != "text":
        return wanted
    return tuple(file for name in wanted for file in text.documents(folder(settings), name))


def has_test(settings: schema.Data) -> bool:
    """Whether the user's own data have a test set; without one data.validation takes its place. Raises UserError."""
    if settings.name == "folder":
        return bool(pictures().has_test(settings))
    test = kind_of(settings).TEST
    return settings.name not in ("idx", "text") or len(missing(settings, test)) < len(test)


def pictures() -> Any:
    """The kind of a folder of pictures: Pillow, which nothing else here needs, comes with it."""
    from src.data import image_folder

    return image_folder
