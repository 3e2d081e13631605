"""Files that are whole under their name or not there: the one atomic write."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import replace
from pathlib import Path

NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # file systems that flush names by themselves, or never


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Write the file under the path that is yielded; at the end of the block it gets its name, power cut included.

    A reader sees the old content or the new, never half of it. If the block or the disk fails, the old file is
    untouched and nothing else is left. Raises OSError.
    """
    temporary = file.with_name(f".{file.name}.part")
    try:
        yield temporary
        _sync(temporary)
        replace(temporary, file)
        sync_folder(file.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a text file whole. Raises OSError."""
    with whole(file) as temporary:
        temporary.write_text(text)


def sync_folder(folder: Path) -> None:
    """Make the names in the folder safe on the disk, where the file system can. Raises OSError."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
