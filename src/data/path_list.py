"""A .csv or .tsv of paths and labels, as pictures of a training and a test set."""

import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src import files
from src.data import pixels
from src.data.class_folders import printable, regular
from src.data.survey import Pictures
from src.errors import UserError

COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "image", "image_path", "filepath"),
    "label": ("label", "class", "class_name", "target", "category"),
    "split": ("split", "set", "subset", "part"),
}
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}


@dataclass(frozen=True)
class Listed:
    """The pictures of a split, in the order of the file; `lines` are those that name them."""

    origin: Path
    classes: tuple[str, ...]
    paths: list[Path]
    lines: list[int]
    labels: list[int]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """The line and the file of a picture."""
        return f"{self.origin}:{self.lines[index]}: {printable(str(self.paths[index]))}"

    def sources(self, start: int, stop: int) -> list[Path]:
        """The files of the pictures start <= i < stop."""
        return self.paths[start:stop]


class Without:
    """Pictures, but some of them."""

    def __init__(self, pictures: Pictures, left_out: frozenset[int]) -> None:
        self._pictures = pictures
        self._kept = [index for index in range(len(pictures)) if index not in left_out]
        self.origin, self.classes = pictures.origin, pictures.classes
        self.labels = [pictures.labels[index] for index in self._kept]
        self.fingerprint = f"{pictures.fingerprint} without {sorted(left_out)}"

    def __len__(self) -> int:
        return len(self._kept)

    def name(self, index: int) -> str:
        """What a picture is called in an error."""
        return self._pictures.name(self._kept[index])

    def sources(self, start: int, stop: int) -> Sequence[pixels.Source]:
        """The pictures start <= i < stop. Raises OSError."""
        return [self._pictures.sources(index, index + 1)[0] for index in self._kept[start:stop]]


@dataclass(frozen=True)
class _Row:
    line: int
    path: Path
    label: str
    split: str


def listed(source: Path) -> dict[str, Pictures]:
    """The pictures of each split that the file names. Raises UserError with the line.

    Columns are path, label and perhaps split (train or test), by a header or in this order. Paths are relative to the
    file's folder. UTF-8, a mark at its beginning and Windows' line ends are fine.
    """
    rows = _rows(source)
    splits = {split: [row for row in rows if row.split == split] for split in ("train", "test")}
    if not splits["train"]:
        raise UserError(
            f"{source}: names no training picture", fix="columns: path,label,split with split train or test"
        )
    return {split: of_split(source, chosen) for split, chosen in splits.items() if chosen}


def ordered(names: set[str]) -> list[str]:
    """The names of classes in their order: as numbers where all are, else as text."""
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def of_split(source: Path, rows: list[_Row]) -> Listed:
    """The pictures that these rows name. Raises UserError for one that is not there."""
    classes = ordered({row.label for row in rows})
    labels = {name: label for label, name in enumerate(classes)}
    digest = hashlib.sha256()
    for row in rows:
        try:
            status = regular(row.path)
        except OSError as error:
            where = f"{source}:{row.line}: {printable(str(row.path))}"
            fix = f"paths are relative to {source.parent}"
            raise UserError(f"{where}: cannot be read ({files.reason(error)})", fix=fix) from None
        digest.update(os.fsencode(f"{row.path}\0{row.label}\0{status.st_size}\0{status.st_mtime_ns}\n"))
    paths, lines = [row.path for row in rows], [row.line for row in rows]
    return Listed(source, tuple(classes), paths, lines, [labels[row.label] for row in rows], digest.hexdigest())


def _rows(source: Path) -> list[_Row]:
    try:
        text = source.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({files.reason(error)})", fix=files.advice(error)) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source}: is not UTF-8 ({error.reason} at byte {error.start})", fix="save it as UTF-8"
        ) from None
    first = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(keepends=True), delimiter=max(",;\t", key=first.count), skipinitialspace=True)
    places, rows = None, []
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if places is None:
            places, is_header = _places([cell.strip().lower() for cell in cells])
            if is_header:
                continue
        rows.append(_row(source, reader.line_num, [cell.strip() for cell in cells], places))
    return rows


def _places(cells: list[str]) -> tuple[dict[str, int], bool]:
    """(where each column is, whether the first line says so)."""
    named = {
        column: place
        for column, names in COLUMNS.items()
        for place in [next((cells.index(name) for name in names if name in cells), None)]
        if place is not None
    }
    if {"path", "label"} <= named.keys():
        return named, True
    return {"path": 0, "label": 1} | ({"split": 2} if len(cells) > 2 else {}), False


def _row(source: Path, line: int, cells: list[str], places: dict[str, int]) -> _Row:
    if len(cells) <= max(places.values()) or not cells[places["path"]] or not cells[places["label"]]:
        raise UserError(
            f"{source}:{line}: {','.join(cells)[:80]}: has not all of {','.join(places)}",
            fix="write path,label or path,label,split in each line",
        )
    split = cells[places["split"]].lower() if "split" in places else "train"
    if split not in SPLITS:
        raise UserError(f"{source}:{line}: the split is {split}", fix="write train or test")
    path = cells[places["path"]]
    path = path.replace("\\", "/") if "\\" in path and not files.exists(source.parent / path) else path
    return _Row(line, source.parent / path, cells[places["label"]], SPLITS[split])
