"""Checksums of files that were computed before, so that a start does not read all data to compute them again.

A record holds a file's size, its times of change and its inode, and is trusted where all of them are what they were.
It lies beside the files, in .checksums.json, or in the user's cache folder where nothing can be written there.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from src import files

NAME = ".checksums.json"
CACHE = "distributed-training-job"  # below XDG_CACHE_HOME
RACY_SECONDS = 2.0  # a file changed so shortly before may change again without another time: the coarsest clock's tick
Key = list[int]


class Remembered:
    """The checksums of the files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places = [folder / NAME, *_cached(folder)]
        self._records = {name: record for place in reversed(self._places) for name, record in _read(place).items()}
        self._changed = False

    def known(self, name: str) -> str:
        """The SHA-256 of a file as it is now, '' if it is not known. Raises OSError."""
        key, digest = self._records.get(name, ([], ""))
        return digest if key == _key(self._folder / name) else ""

    def sha256(self, name: str, compute: Callable[[Path], str]) -> str:
        """The SHA-256 of a file, from the record or computed. Raises OSError."""
        return self.known(name) or self.anew(name, compute)

    def anew(self, name: str, compute: Callable[[Path], str]) -> str:
        """The SHA-256 of a file, computed. Raises OSError."""
        file, began = self._folder / name, time.time()
        before = _key(file)
        digest = compute(file)
        is_old = began - max(before[1], before[2]) / 1e9 > RACY_SECONDS
        if is_old and _key(file) == before:
            self._records[name], self._changed = (before, digest), True
        return digest

    def save(self) -> None:
        """Write the record where that is possible, and nothing where it is not."""
        for place in self._places if self._changed else []:
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                with files.whole(place, shared=True) as temporary:
                    temporary.write_text(json.dumps(_read(place) | self._records))
                return
            except OSError:
                continue


def altered(folder: Path, names: Iterable[str], compute: Callable[[Path], str]) -> list[str]:
    """Compute all anew, and remember that; returns the files that are not what was remembered. Raises OSError."""
    memory, found = Remembered(folder), []
    for name in names:
        before = memory.known(name)
        if before and memory.anew(name, compute) != before:
            found.append(name)
    memory.save()
    return found


def _key(file: Path) -> Key:
    """What differs where a file was written, replaced or moved: size, times of content and of anything else, inode."""
    status = os.stat(file)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _cached(folder: Path) -> list[Path]:
    """The record's place in the user's cache folder, where there is one."""
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        where = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    except (OSError, RuntimeError):
        return []
    return [root / CACHE / f"{where}{NAME}"] if root.is_absolute() else []


def _read(place: Path) -> dict[str, tuple[Key, str]]:
    """The records in a file; those that are none are left out, as is all of a damaged one."""
    try:
        records = json.loads(place.read_text(encoding="utf-8"))
        return {str(name): (list(key), digest) for name, (key, digest) in records.items() if len(digest) == 64}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
