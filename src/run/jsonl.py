"""A file of one JSON object a line, that survives a full disk, a kill, and a folder that is taken away."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from src import files
from src.errors import UserError


class Lines:
    """Append-only. What cannot be written now (a full disk) is kept and written with the next line.

    Nothing that the disk does raises here: it costs one warning for each kind of error, until a line is written again.
    """

    def __init__(self, file: Path, warn: Callable[[str], None]) -> None:
        self._file, self._warnings, self._flushes = file, files.Warnings(warn), files.Warnings(warn)
        self._pending: list[bytes] = []
        self._written = 0
        with self._warning():
            self._written = _size(file)
            self._cut(_whole(file))

    def append(self, **values: Any) -> None:
        """Write one object."""
        self._pending.append(json.dumps(values).encode() + b"\n")
        self._write()

    def position(self) -> int:
        """Bytes written so far; `truncate` goes back to here. `flush` makes them safe on the disk."""
        self._write()
        return self._written

    def flush(self) -> None:
        """Make what is written safe on the disk. Another thread may call it."""
        if self._written and not self._pending:
            try:
                with self._file.open("ab") as stream:
                    files.sync(stream.fileno())
                self._flushes.worked(str(self._file))
            except OSError as error:
                self._flushes.failed(str(self._file), error, ": a power cut may cost its last lines")

    def truncate(self, position: int) -> None:
        """Forget everything after `position` bytes."""
        self._pending.clear()
        with self._warning():
            self._cut(min(position, self._written))

    def _write(self) -> None:
        data = b"".join(self._pending)
        if not data:
            return
        with self._warning():
            try:
                with self._file.open("ab", buffering=0) as stream:
                    self._written = min(self._written, os.fstat(stream.fileno()).st_size)  # 0: somebody removed it
                    os.ftruncate(stream.fileno(), self._written)  # half a line that could not be cut when it failed
                    if stream.write(data) != len(data):
                        raise OSError(28, "No space left on device")
            except OSError:
                with suppress(OSError):
                    self._cut(self._written)
                raise
            self._written += len(data)
            self._pending.clear()
            self._warnings.worked(str(self._file))

    @contextmanager
    def _warning(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._warnings.failed(str(self._file), error, "; kept in memory until it can be written")

    def _cut(self, position: int) -> None:
        if files.exists(self._file):
            os.truncate(self._file, position)
            self._written = position


def read(file: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """The objects of the file from the `start`-th on; a last line that is half written is left out.

    Raises UserError for a line that is no object.
    """
    if not file.exists():
        return
    with file.open("rb") as stream:
        for number, line in enumerate(itertools.islice(stream, start, None), start + 1):
            if line.endswith(b"\n"):
                yield _object(file, number, line)


def _object(file: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:  # also bytes that are no text
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{file}: line {number} is damaged", fix="remove that line")
    return found


def _size(file: Path) -> int:
    return file.stat().st_size if files.exists(file) else 0


def _whole(file: Path) -> int:
    """Length of the whole lines: a kill may have left half of one."""
    return file.read_bytes().rfind(b"\n") + 1 if files.exists(file) else 0
