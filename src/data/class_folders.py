"""A folder for each class, with its pictures: torchvision's ImageFolder layout, as a list in its order."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from src import files
from src.errors import UserError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # ImageFolder's
LEFT_OUT = "left-out.txt"  # in data.root: pictures that are not used, one a line


@dataclass(frozen=True)
class Pictures:
    """The pictures of a split in their order: file names, the class of each, and the names of the classes.

    `fingerprint` differs where a name, a size or a time of a file does.
    """

    root: Path
    classes: tuple[str, ...]
    names: list[str]
    labels: list[int]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.names)

    @property
    def origin(self) -> Path:
        """Where they are, for people."""
        return self.root

    def name(self, index: int) -> str:
        """The file of a picture, for people."""
        return printable(str(self.root / self.names[index]))

    def sources(self, start: int, stop: int) -> list[Path]:
        """The files of the pictures start <= i < stop."""
        return [self.root / name for name in self.names[start:stop]]


@dataclass
class _Found:
    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    others: int = 0  # files that are no pictures


def printable(name: str) -> str:
    """A file's name; of bytes that are no text, escapes."""
    return os.fsencode(name).decode(errors="backslashreplace")


def scan(root: Path, left_out: frozenset[str] = frozenset()) -> Pictures:
    """The pictures below the class folders of `root`, but those left out; names in both are relative to `root`.

    Hidden files and folders are not looked at, nor files without a picture's extension. Links are followed. Raises
    UserError.
    """
    try:
        classes = _classes(root)
        found = _Found()
        for label, name in enumerate(classes):
            before, others = len(found.names), found.others
            _add(root, label, name, left_out, found)
            if len(found.names) == before:
                _refuse_empty(root, name, found.others - others)
    except OSError as error:
        raise UserError(
            f"{printable(str(error.filename or root))}: cannot be read ({files.reason(error)})",
            fix=files.advice(error, "move it away"),
        ) from None
    return Pictures(root, tuple(map(printable, classes)), found.names, found.labels, found.digest.hexdigest())


def left_out(root: Path) -> frozenset[str]:
    """The names in left-out.txt, relative to `root`, where the file is. Raises UserError."""
    try:
        lines = (root / LEFT_OUT).read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise UserError(f"{root / LEFT_OUT}: cannot be read ({files.reason(error)})", fix="chmod it") from None
    return frozenset(_read(root, line.strip()) for line in lines if line.strip())


def written(name: str) -> str:
    """A name as left-out.txt has it: as it is, or as JSON where a line cannot hold it."""
    return name if name == name.strip() and not {"\n", "\r"} & {*name} else json.dumps(name)


def _read(root: Path, line: str) -> str:
    if not line.startswith('"'):  # no name does: they begin with train or test
        return line
    try:
        return str(json.loads(line))
    except ValueError:
        raise UserError(f"{root / LEFT_OUT}: {line} is no JSON", fix="write the name as it is") from None


def regular(file: Path) -> os.stat_result:
    """The status of a file. Raises OSError, and UserError for what blocks whoever opens it, such as a pipe."""
    status = os.stat(file)
    if not stat.S_ISREG(status.st_mode):
        what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, a socket or a device"
        raise UserError(f"{printable(str(file))}: is no picture but {what}", fix="move it away")
    return status


def _classes(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    classes = sorted(entry.name for entry in visible if entry.is_dir())
    loose = sum(_is_picture(entry.name) for entry in visible if not entry.is_dir())
    if not classes and loose:
        raise UserError(
            f"{root}: the {loose} pictures lie in the folder itself",
            fix=f"move them into {root}/CLASS, one for each class",
        )
    if not classes:
        raise UserError(f"{root}: holds no class folder", fix=f"put the pictures into {root}/CLASS")
    return classes


def _add(root: Path, label: int, top: str, left_out: frozenset[str], found: _Found) -> None:
    """Add the pictures of a class: folder by folder in the order of their paths, as ImageFolder does."""
    for folder, entries in sorted(_walk(root, top)):
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = f"{folder}/{entry.name}"
            if not _is_picture(entry.name):
                found.others += 1
            elif name not in left_out:
                status = regular(root / name)
                found.names.append(name)
                found.labels.append(label)
                found.digest.update(os.fsencode(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n"))


def _walk(root: Path, top: str) -> Iterator[tuple[str, list["os.DirEntry[str]"]]]:
    """(a folder below `root`, its visible files) for `top` and all folders in it."""
    waiting: list[tuple[str, frozenset[tuple[int, int]]]] = [(top, frozenset())]
    while waiting:
        folder, above = waiting.pop()
        status = os.stat(root / folder)
        if (here := (status.st_dev, status.st_ino)) in above:
            continue  # a link to a folder above it
        with os.scandir(root / folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
        waiting += [(f"{folder}/{entry.name}", above | {here}) for entry in visible if entry.is_dir()]
        yield folder, [entry for entry in visible if not entry.is_dir()]


def _is_picture(name: str) -> bool:
    return name.lower().endswith(EXTENSIONS)


def _refuse_empty(root: Path, name: str, others: int) -> None:
    kinds = f": its {others} files end in none of {' '.join(EXTENSIONS)}" if others else ""
    raise UserError(
        f"{root / printable(name)}: the class has no picture{kinds}", fix="put one there, or move the folder away"
    )
