"""Parquet and Arrow files of pictures and labels, Hugging Face's layouts among them, through pyarrow."""

import hashlib
import io
import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src import files
from src.data import pixels
from src.data.path_list import ordered
from src.data.survey import Pictures
from src.errors import UserError

PARQUET, ARROW = ".parquet", ".arrow"
IMAGES = ("image", "img", "picture", "pixel_values")  # names of the column, the usual ones first
LABELS = ("label", "labels", "class", "target", "fine_label", "category")
TEST = ("test", "validation", "valid", "val", "dev")  # what is measured on: the first of them that is there
SPLIT = re.compile(r"(?:^|[^a-z])(train|test|validation|valid|val|dev)(?:[^a-z]|$)")


@dataclass(frozen=True)
class _Piece:
    """Rows of a file that are read together: a row group, or a whole Arrow file (`group` is None), which is mapped."""

    file: Path
    group: int | None
    start: int
    count: int


@dataclass
class Rows:
    """The pictures of a split in the order of their rows."""

    origin: Path
    column: str
    pieces: list[_Piece]
    classes: tuple[str, ...]
    labels: list[int]
    fingerprint: str
    _last: threading.local = field(default_factory=threading.local, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The file and the row of a picture."""
        piece = next(piece for piece in self.pieces if piece.start <= index < piece.start + piece.count)
        first = next(other.start for other in self.pieces if other.file == piece.file)
        return f"{piece.file}: row {index - first}"

    def sources(self, start: int, stop: int) -> Sequence[pixels.Source]:
        """The pictures start <= i < stop. Raises OSError."""
        found: list[pixels.Source] = []
        for piece in self.pieces:
            first, last = max(start, piece.start), min(stop, piece.start + piece.count)
            if first < last:
                column = self._read(piece).slice(first - piece.start, last - first)
                found += [_source(piece.file, value) for value in column.to_pylist()]
        return found

    def _read(self, piece: _Piece) -> Any:
        """The piece's column of pictures; each thread keeps its last one."""
        if getattr(self._last, "piece", None) != piece:
            self._last.column, self._last.piece = _column(piece, self.column), piece
        return self._last.column


def files_of(source: Path) -> dict[str, list[Path]]:
    """The Parquet or Arrow files of each split below a folder, or the file itself; {} where there are none."""
    if not source.is_dir():
        return {"train": [source]}
    try:
        if (source / "dataset_dict.json").exists() or (source / "state.json").exists():
            found = sorted(source.rglob(f"*{ARROW}"))  # datasets.save_to_disk
        else:
            found = sorted(source.rglob(f"*{PARQUET}")) or sorted(source.rglob(f"*{ARROW}"))
    except OSError:
        return {}
    splits: dict[str, list[Path]] = {}
    for file in found:
        named = SPLIT.findall(str(file.relative_to(source)).lower())
        splits.setdefault(named[0] if named else "train", []).append(file)
    test = next((name for name in TEST if name in splits), "")
    chosen = {"train": splits.get("train", [])} | ({"test": splits[test]} if test else {})
    return {split: named for split, named in chosen.items() if named}


def rows(source: Path) -> dict[str, Pictures]:
    """The pictures of each split. Raises UserError."""
    try:
        import pyarrow
    except ImportError:
        raise UserError(f"{source}: pyarrow is not installed", fix="run `make setup-import`") from None
    splits = files_of(source)
    if "train" not in splits:
        raise UserError(f"{source}: holds no training files", fix="call them train-*.parquet, and test-*.parquet")
    try:
        return {split: _rows(source, named) for split, named in splits.items()}
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{source}: cannot be read ({' '.join(str(error).split())[:200]})") from None


def _rows(source: Path, named: list[Path]) -> Rows:
    schema = _schema(named[0])
    images = _chosen(source, schema, IMAGES, _holds_pictures, "pictures (bytes, or a struct of bytes and path)")
    label = _chosen(source, schema, LABELS, _holds_labels, "labels (whole numbers or text)")
    values: list[Any] = []
    pieces: list[_Piece] = []
    digest = hashlib.sha256(f"{images}\0{label}".encode())
    for file in named:
        status = file.stat()
        digest.update(f"{file.relative_to(source.parent)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        for group, count in _groups(file):
            piece = _Piece(file, group, len(values), count)
            pieces.append(piece)
            values += _column(piece, label).to_pylist()
    classes, labels = _labels(source, label, values, _class_names(schema, label))
    return Rows(source, images, pieces, classes, labels, digest.hexdigest())


def _labels(source: Path, column: str, values: list[Any], names: list[str]) -> tuple[tuple[str, ...], list[int]]:
    """(the names of the classes, the class of each row). Raises UserError for a row without a label."""
    missing = next((at for at, value in enumerate(values) if value is None or value == -1), None)
    if missing is not None or not values:
        where = f"row {missing} has no label" if values else "holds no rows"
        raise UserError(f"{source}: {where} (column {column})", fix="leave this split out, or give it labels")
    if names and all(isinstance(value, int) and 0 <= value < len(names) for value in values):
        return tuple(names), values
    classes = ordered({str(value) for value in values})
    places = {name: label for label, name in enumerate(classes)}
    return tuple(classes), [places[str(value)] for value in values]


def _class_names(schema: Any, column: str) -> list[str]:
    """The names that Hugging Face's metadata gives to the numbers of a column, [] where there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return [str(name) for name in features[column]["names"]]
    except (KeyError, TypeError, ValueError):
        return []


def _chosen(source: Path, schema: Any, usual: tuple[str, ...], fits: Any, what: str) -> str:
    """The name of the column of this kind. Raises UserError where there is none, or none of several is usual."""
    fitting = [name for name in schema.names if fits(schema.field(name).type)]
    chosen = next((name for name in usual if name in fitting), fitting[0] if len(fitting) == 1 else "")
    if not chosen:
        columns = ", ".join(f"{name} ({schema.field(name).type})" for name in schema.names)[:300]
        raise UserError(f"{source}: has no one column of {what}: {columns}", fix=f"name it {usual[0]}")
    return chosen


def _holds_pictures(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_struct(kind):
        return "bytes" in [kind.field(at).name for at in range(kind.num_fields)]
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _holds_labels(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))


def _schema(file: Path) -> Any:
    import pyarrow.parquet as parquet

    return _mapped(file).schema if file.suffix == ARROW else parquet.read_schema(file)


def _groups(file: Path) -> Iterator[tuple[int | None, int]]:
    """(number, rows) of each piece of a file."""
    import pyarrow.parquet as parquet

    if file.suffix == ARROW:
        yield None, _mapped(file).num_rows
        return
    metadata = parquet.read_metadata(file)
    for group in range(metadata.num_row_groups):
        yield group, metadata.row_group(group).num_rows


def _column(piece: _Piece, name: str) -> Any:
    import pyarrow.parquet as parquet

    if piece.group is None:
        return _mapped(piece.file).column(name)
    with parquet.ParquetFile(piece.file) as opened:
        return opened.read_row_group(piece.group, columns=[name]).column(name)


def _mapped(file: Path) -> Any:
    """The table of an Arrow file, a stream (what `datasets` writes) or one with a footer."""
    import pyarrow
    from pyarrow import ipc

    try:
        return ipc.open_stream(pyarrow.memory_map(str(file))).read_all()
    except pyarrow.ArrowInvalid:
        return ipc.open_file(pyarrow.memory_map(str(file))).read_all()


def _source(file: Path, value: Any) -> pixels.Source:
    """A picture's bytes, or the file that is named in their place."""
    content: bytes | None = value.get("bytes") if isinstance(value, dict) else value
    if content is None and isinstance(value, dict) and value.get("path"):
        named: Path = file.parent / value["path"]
        if files.exists(named):
            return named
    return io.BytesIO(content or b"")
