"""The data set: which, from where, in files of which kind; what the job renders itself where there is no other."""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from src import schema
from src.data import download, labels, provision, remembered, text
from src.data.held_out import hold_out
from src.data.kinds import folder, has_test, kind_of, missing, names_of, pictures, rendered
from src.data.splits import Spec, Split
from src.errors import Unreachable, UserError
from src.world.world import World

# SHA-256 of the unpacked files, for those that torchvision's checksums of the packed ones do not reach.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """The test samples, what a model must know of them, and what they are.

    `name` is what is measured on; `note` gives the reason where that is not what was asked for. `checksums` holds
    the SHA-256 of its files, in their order.
    """

    name: str
    test: Split
    spec: Spec
    checksums: dict[str, str]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class DataSet(TestSet):
    """The training samples too; `name` is what is trained on. `validation` are those of data.validation.

    Without test files, `has_test` is False, and the samples that are held out are the test set too.
    """

    train: Split
    validation: Split | None = None
    has_test: bool = True

    def held_out(self, share: float, seed: int) -> "DataSet":
        """With this share of the training samples, or so many, held out; the same for 0. Raises UserError."""
        if not share:
            return self
        train, validation = hold_out(self.train, share, seed)
        test = self.test if self.has_test else validation
        return dataclasses.replace(self, train=train, validation=validation, test=test)

    @property
    def headline(self) -> str:
        """The first and the last line on the console."""
        return _headline(self.name, self.note)

    @property
    def fingerprint(self) -> str:
        """One hash over the files' hashes."""
        return hashlib.sha256("".join(self.checksums.values()).encode()).hexdigest()


@dataclass(frozen=True)
class Prepared:
    """Files that are there and whole: the data set's name, their SHA-256, and why it is not the one asked for."""

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
    wanted = wanted_of(settings)
    return mapped(settings, world, world.each_node_decides(lambda: prepare(settings, report, wanted)), report)


def wanted_of(settings: schema.Data) -> tuple[str, ...]:
    """The files that a training reads: () for all, the training set's where there are no others. Raises UserError."""
    return () if has_test(settings) or not settings.validation else kind_of(settings).TRAIN


def mapped(settings: schema.Data, world: World, prepared: list[Prepared], report: Callable[[str], None]) -> DataSet:
    """The data set of files that every node has. Raises UserError where they are not the same."""
    if any(other.checksums != prepared[0].checksums for other in prepared):
        seen = ", ".join(f"{other.name}" for other in prepared)
        raise UserError(f"data.root={settings.root}: the nodes hold different files ({seen})", fix="give all the same")
    first = prepared[0]
    chosen = dataclasses.replace(settings, name=first.name)
    is_alone = bool(wanted_of(settings)) and chosen.name == settings.name
    train, test, spec = _train_alone(chosen) if is_alone else _both(chosen)
    for line in _notes(chosen, spec) if world.rank == 0 else []:
        report(line)
    facts: dict[str, Any] = {"checksums": first.checksums, "note": first.note, "has_test": not is_alone}
    return DataSet(name=first.name, train=train, test=test, spec=spec, **facts)


def _notes(settings: schema.Data, spec: Spec) -> list[str]:
    """What a user is to know of how the files are read."""
    if settings.name == "idx" and (mapping := labels.mapping(spec.names)):
        return [mapping]
    return text.notes(folder(settings), settings.block) if settings.name == "text" else []


def load_test(settings: schema.Data, spec: Spec, report: Callable[[str], None]) -> TestSet:
    """The test samples alone, for a model trained on data of this `spec`; renders nothing. Raises UserError."""
    settings = dataclasses.replace(settings, fallback="none")
    kind = kind_of(settings)
    checksums = prepare(settings, report, kind.TEST, spec).checksums
    test = kind.test(folder(settings, spec), settings, spec)
    return TestSet(name=settings.name, test=test, spec=spec, checksums=checksums)


def _train_alone(settings: schema.Data) -> tuple[Split, Split, Spec]:
    train, spec = kind_of(settings).train(folder(settings), settings)
    return train, train, spec


def _both(settings: schema.Data) -> tuple[Split, Split, Spec]:
    kind, raw = kind_of(settings), folder(settings)
    train, spec = kind.train(raw, settings)
    return train, kind.test(raw, settings, spec), spec


def altered(settings: schema.Data) -> list[str]:
    """Compute the checksums anew; the names of the files that are not what is remembered of them. Raises OSError."""
    return remembered.altered(folder(settings), names_of(settings), download.sha256)


def prepare(
    settings: schema.Data, report: Callable[[str], None], wanted: tuple[str, ...] = (), spec: Spec | None = None
) -> Prepared:
    """Make sure that the files, or those wanted, are there and whole; on the first rank of a node. Raises UserError.

    `spec` is what a model was trained on, where the test files alone are wanted.
    """
    if settings.name == "folder":
        pictures().prepare(settings, wanted, report, spec)
    elif missing(settings, wanted):
        try:
            provision.provide(settings, report)
        except Unreachable as error:
            return _embedded(settings, str(error), report)
    return Prepared(settings.name, _checked(settings, wanted, spec), "")


def _embedded(settings: schema.Data, reason: str, report: Callable[[str], None]) -> Prepared:
    """What the job renders itself, for the `reason` that the data set cannot be had. Raises UserError."""
    name, note = instead(settings, reason)
    headline = _headline(name, note)
    embedded = prepare(dataclasses.replace(settings, name=name), lambda line: report(f"{headline}\n{line}"))
    return dataclasses.replace(embedded, note=note)


def instead(settings: schema.Data, reason: str) -> tuple[str, str]:
    """(the name of what is rendered, why) where the data set cannot be had for this `reason`. Raises UserError."""
    if settings.fallback == "none":
        raise UserError(f"data.name={settings.name}: {reason}", fix=provision.how_to(settings))
    return rendered(settings), f"{settings.name} is not here and {reason}"


def _checked(settings: schema.Data, wanted: tuple[str, ...], spec: Spec | None) -> dict[str, str]:
    """Checksums of the files, which are those expected; all of them fit each other. Raises UserError."""
    checksums = download.verify(folder(settings, spec), names_of(settings, wanted), pinned(settings))
    if not wanted:
        _both(settings)
    return checksums


def pinned(settings: schema.Data) -> dict[str, str]:
    """The SHA-256 that files are known to have."""
    if settings.name == rendered(settings):
        return dict(provision.renderer(settings.name).SHA256)
    return MNIST_SHA256 if settings.name == "mnist" else {}
