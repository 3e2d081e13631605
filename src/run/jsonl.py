"""A file of one JSON object a line, that survives a full disk and a kill."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


class Lines:
    """Append-only. What cannot be written now (a full disk) is kept and written with the next line."""

    def __init__(self, file: Path, warn: Callable[[str], None]) -> None:
        self._file, self._warn = file, warn
        self._pending: list[bytes] = []
        self._written = file.stat().st_size if file.exists() else 0
        self._cut(_whole(file))

    def append(self, **values: Any) -> None:
        """Write one object."""
        self._pending.append(json.dumps(values).encode() + b"\n")
        self._write()

    def position(self) -> int:
        """Bytes written so far and safe on the disk; `truncate` goes back to here."""
        self._write()
        if self._written:
            with self._file.open("ab") as stream:
                os.fsync(stream.fileno())
        return self._written

    def truncate(self, position: int) -> None:
        """Forget everything after `position` bytes."""
        self._pending.clear()
        self._cut(min(position, self._written))

    def _write(self) -> None:
        data = b"".join(self._pending)
        if not data:
            return
        try:
            with self._file.open("ab", buffering=0) as stream:
                written = stream.write(data)
                if written != len(data):
                    raise OSError(28, "no space left on device")
        except OSError as error:
            self._cut(self._written)
            self._warn(f"{self._file}: {error.strerror}; kept in memory until it can be written")
            return
        self._written += len(data)
        self._pending.clear()

    def _cut(self, position: int) -> None:
        if self._file.exists():
            os.truncate(self._file, position)
            self._written = position


def read(file: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """The objects of the file from the `start`-th on; a last line that is half written is left out."""
    if not file.exists():
        return
    with file.open("rb") as stream:
        for line in itertools.islice(stream, start, None):
            if line.endswith(b"\n"):
                yield json.loads(line)


def _whole(file: Path) -> int:
    """Length of the whole lines: a kill may have left half of one."""
    if not file.exists():
        return 0
    return file.read_bytes().rfind(b"\n") + 1
