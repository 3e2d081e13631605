"""EMNIST's splits by name: letters and digits as MNIST has them, in one archive of IDX files.

The files hold pictures with rows and columns exchanged; they are given upright, as MNIST's are. Cohen, Afshar, Tapson
and van Schaik: EMNIST, an extension of MNIST to handwritten letters, 2017.
"""

import string
from pathlib import Path

import torch
from torch import Tensor

from src import schema
from src.data import idx, labels
from src.data.column import Column
from src.data.splits import Spec, Split, check_test, spec_of
from src.errors import UserError

ARCHIVE, MD5 = "gzip.zip", "58c8d27c78d21e728a6bc7b3cc06412e"
MIRRORS = ("https://biometrics.nist.gov/cs_links/EMNIST/",)
_LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_MERGED = "".join(letter for letter in _LETTERS if letter not in "cijklmopsuvwxyz")  # with their upper case
# The names of each split's classes, in the order of their labels.
CLASSES = {
    "letters": string.ascii_lowercase,  # of both cases; labels start at 1
    "balanced": _MERGED,
    "byclass": _LETTERS,
    "bymerge": _MERGED,
    "digits": string.digits,
    "mnist": string.digits,
}


class Emnist:
    """A split of EMNIST: a kind of files."""

    def __init__(self, split: str) -> None:
        self._names, self._first = tuple(CLASSES[split]), 1 if split == "letters" else 0
        self.TRAIN, self.TEST = (
            tuple(f"emnist-{split}-{part}-{what}-ubyte" for what in ("images-idx3", "labels-idx1"))
            for part in ("train", "test")
        )
        self.FILES = self.TRAIN + self.TEST
        self.members = {name: f"gzip/{name}.gz" for name in self.FILES}  # of the archive

    def train(self, folder: Path, settings: schema.Data) -> tuple[Split, Spec]:
        """The training samples, upright, with the letters as names of the classes. Raises UserError."""
        split = self._split(folder, self.TRAIN, self._names)
        return split, spec_of(split, len(self._names), () if self._names == tuple(string.digits) else self._names)

    def test(self, folder: Path, settings: schema.Data, spec: Spec) -> Split:
        """The test samples of a model that knows their classes by name. Raises UserError."""
        split = self._split(folder, self.TEST, tuple(map(spec.name, range(spec.classes))))
        check_test(folder, split, spec, self.TEST[1])
        return split

    def assumed(self, settings: schema.Data) -> Spec:
        """What the split is taken for while its files are missing: what it is."""
        return Spec((28, 28), torch.uint8, len(self._names))

    def _split(self, folder: Path, names: tuple[str, ...], known: tuple[str, ...]) -> Split:
        """The two files, each label the place of its name among the `known` ones."""
        stored, file = idx.stored_of(folder, *names), folder / names[1]
        own = torch.arange(self._first, self._first + len(self._names))
        labels.refuse_unknown(file, stored.targets, own)
        called = [self._names[label - self._first] for label in labels.distinct(stored.targets).tolist()]
        if unknown := [name for name in called if name not in known]:
            raise UserError(
                f"{file}: holds the class {unknown[0]}{f' and {len(unknown) - 1} more' if unknown[1:] else ''}",
                fix=f"the model's classes are {', '.join(known[:5])}{', ...' if known[5:] else ''}",
            )
        places = torch.tensor([known.index(name) if name in known else -1 for name in self._names])
        targets = Column([stored.targets[:]], lambda rows: places[rows.long() - self._first])
        return Split(Column([stored.inputs[:]], _upright), targets[:])


def _upright(pictures: Tensor) -> Tensor:
    return pictures.transpose(1, 2).contiguous()


KINDS = {f"emnist_{split}": Emnist(split) for split in CLASSES}
