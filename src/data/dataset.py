"""The data set: its four IDX files, memory-mapped; the embedded digits where there is no other."""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src import schema
from src.addresses import without_secrets
from src.data import download, folders
from src.data.splits import Spec, Split, spec_of, split_of
from src.errors import Unreachable, UserError
from src.world.world import World

TRAIN = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
TEST = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FILES = TRAIN + TEST

# The folder of each data set below data.root, named by torchvision after its classes.
FOLDERS = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "digits": "digits",
    "idx": "IDX",
}

# SHA-256 of the unpacked files, for those that torchvision's checksums of the packed ones do not reach.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


@dataclass(frozen=True)
class DataSet:
    """Both splits, what a model must know of them, and what they are.

    `name` is what is trained on; `note` gives the reason where that is not what was asked for. `checksums` holds
    the SHA-256 of the four files.
    """

    name: str
    train: Split
    test: Split
    spec: Spec
    checksums: dict[str, str]
    note: str = ""

    @property
    def headline(self) -> str:
        """The first and the last line on the console."""
        return _headline(self.name, self.note)

    @property
    def fingerprint(self) -> str:
        """One hash over the four files' hashes."""
        return hashlib.sha256("".join(self.checksums[name] for name in FILES).encode()).hexdigest()


@dataclass(frozen=True)
class _Prepared:
    name: str
    checksums: dict[str, str]
    note: str


def _headline(name: str, note: str) -> str:
    if not note:
        return f"training on {name}"
    return f"NOT THE DATA ASKED FOR: training on {name}, rendered here: {note}"


def load(settings: schema.Data, world: World, report: Callable[[str], None]) -> DataSet:
    """The data set of the settings, or the rendered digits where there is no other and they are allowed.

    The first rank of each node fetches and checks the files; all map them, so that a node holds one copy
    in its page cache. Raises UserError.
    """
    prepared = world.each_node_decides(lambda: prepare(settings, report))
    if any(other.checksums != prepared[0].checksums for other in prepared):
        seen = ", ".join(f"{other.name}" for other in prepared)
        raise UserError(f"data.root={settings.root}: the nodes hold different files ({seen})", fix="give all the same")
    first = prepared[0]
    raw = folder(dataclasses.replace(settings, name=first.name))
    train, test = split_of(raw, *TRAIN), split_of(raw, *TEST)
    return DataSet(first.name, train, test, spec_of(raw, train, test, TEST[1]), first.checksums, first.note)


def folder(settings: schema.Data) -> Path:
    """Where the raw files of the data set are."""
    return Path(settings.root) / FOLDERS[settings.name] / "raw"


def missing(settings: schema.Data) -> list[str]:
    """The names of the raw files that are not there. Raises UserError where this user may not look."""
    return folders.absent(folder(settings), FILES)


def answering(settings: schema.Data, seconds: float) -> str:
    """The mirror that would be fetched from, '' if none answers. Takes a byte from it, and no more."""
    source = _source(settings.name)
    raw, (packed, _) = folder(settings), source.resources[0]
    asked = [str(raw), *settings.mirrors, *source.mirrors]
    return next((mirror for mirror in asked if download.answers(mirror, packed, seconds)), "")


def prepare(settings: schema.Data, report: Callable[[str], None]) -> _Prepared:
    """Make sure that the files are there and whole; on the first rank of a node. Raises UserError."""
    raw = folder(settings)
    if not missing(settings):
        return _Prepared(settings.name, _checked(settings.name, raw), "")
    try:
        _provide(settings, raw, report)
    except Unreachable as error:
        if settings.fallback == "none":
            raise UserError(f"data.name={settings.name}: no mirror answers ({error})", fix=_how_to(raw)) from None
        note = f"{settings.name} is not here and no mirror answers ({error})"
        headline = _headline("digits", note)
        embedded = prepare(dataclasses.replace(settings, name="digits"), lambda text: report(f"{headline}\n{text}"))
        return dataclasses.replace(embedded, note=note)
    return _Prepared(settings.name, _checked(settings.name, raw), "")


def _provide(settings: schema.Data, raw: Path, report: Callable[[str], None]) -> None:
    if settings.name == "digits":
        from src.data import digits  # needs numpy and Pillow, which nothing else here does

        report(f"rendering the embedded digits into {raw}")
        digits.write(raw)
    elif settings.name == "idx":
        hint = folders.misplaced(raw, FILES)
        raise UserError(f"data.name=idx: put your files into {raw}: {', '.join(missing(settings))}", fix=hint)
    else:
        source = _source(settings.name)
        mirrors = settings.mirrors + list(source.mirrors)
        download.fetch(raw, source.resources, mirrors, lambda text: report(without_secrets(text)))


def _source(name: str) -> Any:
    """torchvision's class: it names the files, their checksums and its mirrors. Takes 0.8 s to import."""
    from torchvision import datasets  # noqa: TID251

    return getattr(datasets, FOLDERS[name])


def _how_to(raw: Path) -> str:
    return (
        f"put {', '.join(FILES)} into {raw}, or name a folder or URL with the .gz files: data.mirrors=[...]; "
        "or train on rendered digits: data.name=digits"
    )


def _checked(name: str, raw: Path) -> dict[str, str]:
    """Checksums of the four files, which are those expected and fit each other. Raises UserError."""
    pinned = MNIST_SHA256 if name == "mnist" else {}
    if name == "digits":
        from src.data import digits

        pinned = digits.SHA256
    checksums = download.verify(raw, FILES, pinned)
    spec_of(raw, split_of(raw, *TRAIN), split_of(raw, *TEST), TEST[1])
    return checksums
