"""A folder of pictures, ImageFolder's layout: data.root/train/CLASS/picture.png, and the same in test/.

It is converted once, into data.root/converted/SIZE: arrays that are mapped, and the names of the classes. They are
enough: the pictures need not be there any more. A label is the place of its class among the sorted names; those of the
test set follow the training's, by name.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from src import files, schema
from src.data import class_folders, conversion, folders, idx
from src.data.labels import renumbered
from src.data.splits import Spec, Split, check_test
from src.data.survey import Broken, Pictures, Shape
from src.errors import UserError

SPLITS = ("train", "test")
TRAIN, TEST = (tuple(f"{split}/{name}" for name in conversion.NAMES) for split in SPLITS)
FILES = TRAIN + TEST
OTHER_NAMES = ("val", "valid", "validation")  # what others call the test set
LEAST_CLASSES = 2

Found = Mapping[str, Pictures | None]


def train(folder: Path, settings: schema.Data) -> tuple[Split, Spec]:
    """The training pictures, mapped, and what a model must know of them, their classes' names too."""
    split, names = idx.split_of(folder, *TRAIN[:2]), _names(folder / TRAIN[2])
    shape = tuple(split.inputs.shape[1:])
    return split, Spec(shape, split.inputs.dtype, len(names), (), torch.int64, names)


def test(folder: Path, settings: schema.Data, spec: Spec) -> Split:
    """The test pictures, mapped, with the training's labels. Raises UserError for a class that the training lacks."""
    split, names = idx.split_of(folder, *TEST[:2]), _names(folder / TEST[2])
    known = spec.names or tuple(map(str, range(spec.classes)))
    _refuse_unknown(names, known, folder / "test")
    places = {name: label for label, name in enumerate(known)}
    split = Split(split.inputs, renumbered(split.targets, torch.tensor([places[name] for name in names])))
    check_test(folder, split, spec, TEST[1])
    return split


def assumed(settings: schema.Data) -> Spec:
    """What pictures that are not converted yet are taken for: colour, in the classes that are there."""
    side = settings.image_size or 224
    try:
        classes = sum(entry.is_dir() for entry in (_where(settings) / "train").iterdir())
    except OSError:
        classes = 0
    return Spec((3, side, side), torch.uint8, max(classes, LEAST_CLASSES))


def has_test(settings: schema.Data) -> bool:
    """Whether there is a test set: pictures, or what was made of them."""
    return files.exists(_where(settings) / "test") or files.exists(_converted(settings) / "test")


def prepare(settings: schema.Data, wanted: tuple[str, ...], report: Callable[[str], None], spec: Spec | None) -> None:
    """Convert the splits whose files are wanted, unless they are; to be called by one rank of a node.

    Pictures of a test set alone are brought to the shape of `spec`. Raises UserError.
    """
    splits = [split for split, names in zip(SPLITS, (TRAIN, TEST), strict=True) if not wanted or {*names} & {*wanted}]
    found = {split: scan(settings, split, _where(settings), report) for split in splits}
    try:
        convert(settings, found, report, spec.shape if spec else None)
    except BrokenPictures as broken:
        fix = f"move it away, or leave all such out: python -m src.data import {settings.root} --skip-broken"
        raise UserError(str(broken), fix=fix) from None


def convert(settings: schema.Data, found: Found, report: Callable[[str], None], shape: Shape | None = None) -> None:
    """Convert the pictures of each split, but those that are None. Raises UserError, BrokenPictures.

    A test set has the shape of the training set, where `shape` says none.
    """
    _refuse_classes(found)
    for split, pictures in found.items():
        result = _place(settings, shape) / split
        if split == "test" and shape is None and files.exists(result.with_name("train")):
            shape = conversion.shape_of(result.with_name("train"))
        if pictures is None or conversion.is_current(result, conversion.key_of(pictures, settings.image_size, shape)):
            continue
        report(f"converting {split} into {result}, once")
        try:
            conversion.convert(pictures, result, settings.image_size, shape, report)
        except Broken as broken:
            raise BrokenPictures(split, pictures, broken.reasons) from None


class BrokenPictures(Exception):
    """Pictures of a split that no pixels can be made of."""

    def __init__(self, split: str, pictures: Pictures, reasons: dict[int, str]) -> None:
        index, reason = next(iter(reasons.items()))
        more = f", and {len(reasons) - 1} more are broken" if len(reasons) > 1 else ""
        super().__init__(f"{pictures.name(index)}: {reason}{more}")
        self.split, self.pictures, self.reasons = split, pictures, reasons


def scan(settings: schema.Data, split: str, root: Path, report: Callable[[str], None]) -> class_folders.Pictures | None:
    """The pictures of a split below `root`; None where there are none, but what was made of them. Raises UserError."""
    source = root / split
    if files.exists(_converted(settings) / split) and not files.exists(source):
        return None
    folders.absent(root, (split,))  # what is in the way of it
    if not files.exists(source):
        raise UserError(f"data.name=folder: there is no folder {source}", fix=_how_to(root, split))
    all_left_out = class_folders.left_out(root)
    below = frozenset(name.removeprefix(f"{split}/") for name in all_left_out if name.startswith(f"{split}/"))
    if below:
        report(f"{root / class_folders.LEFT_OUT}: {len(below)} pictures of {split} are left out")
    return class_folders.scan(source, below)


def state(settings: schema.Data, splits: tuple[str, ...] = SPLITS) -> tuple[bool, int]:
    """(whether all is converted, the number of pictures). Converts nothing. Raises UserError."""
    found = {split: scan(settings, split, _where(settings), lambda _: None) for split in splits}
    _refuse_classes(found)
    shape, ready, count = None, True, 0
    for split, pictures in found.items():
        result = _converted(settings) / split
        if pictures is not None:
            key = conversion.key_of(pictures, settings.image_size, shape)
            ready = ready and conversion.is_current(result, key)
            count += len(pictures)
        shape = conversion.shape_of(result) if ready else None
    return ready, count


def folder_of(settings: schema.Data, spec: Spec | None) -> Path:
    """Where the arrays are, below data.root."""
    return _place(settings, spec.shape if spec else None)


def _place(settings: schema.Data, shape: Shape | None) -> Path:
    """Where test pictures in this `shape` are: not in the place of those in the shape of their own training set."""
    own = _converted(settings)
    if shape is None or not files.exists(own / "train") or conversion.shape_of(own / "train") == tuple(shape):
        return own
    if not files.exists(_where(settings) / "test"):
        return own
    return own.with_name(f"{own.name}-as-{'x'.join(map(str, shape))}")


def _where(settings: schema.Data) -> Path:
    return Path(settings.root)


def _converted(settings: schema.Data) -> Path:
    return Path(settings.root) / "converted" / (str(settings.image_size) if settings.image_size else "own-size")


def _names(file: Path) -> tuple[str, ...]:
    """The names of the classes. Raises UserError."""
    with folders.reading(file):
        text = file.read_text(encoding="utf-8")
    try:
        return tuple(map(str, json.loads(text)))
    except ValueError:
        raise UserError(f"{file}: is damaged", fix=f"remove {file.parent}: it is made again") from None


def _refuse_classes(found: Found) -> None:
    """Raise UserError for classes that cannot be learnt, before anything is converted."""
    train, test = found.get("train"), found.get("test")
    if train is not None and len(train.classes) < LEAST_CLASSES:
        raise UserError(
            f"{train.origin}: holds one class, {train.classes[0]} ({len(train)} pictures)",
            fix="a model tells two or more apart: add pictures of another",
        )
    if train is not None and test is not None:
        _refuse_unknown(test.classes, train.classes, test.origin)


def _refuse_unknown(names: tuple[str, ...], known: tuple[str, ...], where: Path) -> None:
    unknown = [name for name in names if name not in {*known}]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise UserError(
            f"{where}: holds the class {unknown[0]}{more}, which the training set lacks",
            fix=f"rename it (training classes are {', '.join(known[:5])}{', ...' if len(known) > 5 else ''}), remove "
            "it, or train on pictures of it",
        )


def _how_to(root: Path, split: str) -> str:
    """What to do about a split that is not there."""
    if split == "train":
        return f"put the pictures into {root}/train/CLASS, or name another folder with data.root="
    if other := next((name for name in OTHER_NAMES if files.exists(root / name)), ""):
        return f"name {root / other} so: ln -s {other} {root}/test; or hold out a part: data.validation=0.1"
    return f"put the test pictures into {root}/test/CLASS, or hold out a part of the training set: data.validation=0.1"
