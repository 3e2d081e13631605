"""Files on file systems of all kinds: whole under their name or not there, and what an error of the disk means."""

import argparse
import errno
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from os import replace
from pathlib import Path
from typing import Any

from src.errors import UserError

# What a flush of a folder may answer and still be an error: of everything else the name is there all the same.
DISK_ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE)
NO_FLUSH = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # file systems that flush by themselves, or never
BUSY = (errno.EBUSY, errno.ETXTBSY, errno.EAGAIN)  # a network file system, while another host has the old file open
RENAME_SECONDS = 2.0  # longest that a rename which is refused as busy is tried again
ADVICE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "the quota is used up: delete files there",
    errno.EFBIG: "the limit of a file's size is reached: ulimit -f unlimited",
    errno.EMFILE: "too few files may be open: ulimit -n 4096",
    errno.EROFS: "mount it for writing",
    errno.EACCES: "chmod it",
    errno.EPERM: "chmod it",
    errno.ESTALE: "the file server has lost it: mount it again",
    errno.EIO: "look at the disk",
}


@contextmanager
def whole(file: Path, shared: bool = False) -> Iterator[Path]:
    """Write the file under the path that is yielded; at the end of the block it gets its name, power cut included.

    A reader sees the old content or the new, never half of it. If the block or the disk fails, the old file is
    untouched and nothing else is left. `shared`: others may write the same file at the same time. Raises OSError.
    """
    own = f".{os.uname().nodename}-{os.getpid()}" if shared else ""
    temporary = file.with_name(f".{file.name}{own}.part")
    try:
        yield temporary
        _sync(temporary)
        _rename(temporary, file)
        sync_folder(file.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a text file whole, in UTF-8. Raises OSError."""
    with whole(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def link_or_copy(file: Path, name: Path) -> None:
    """Give the file a second name, whole or not there: a hard link, or a copy where there are none. Raises OSError."""
    with whole(name) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(file, temporary)
        except OSError as error:
            if error.errno in DISK_ERRORS:
                raise
            shutil.copyfile(file, temporary)


def make_folder(folder: Path) -> None:
    """Make the folder and those above it, where they are not there. Raises OSError that says what is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        for path in (folder, *folder.parents):
            if problem := in_the_way(path):
                raise NotADirectoryError(errno.ENOTDIR, problem, str(path)) from None
        raise


def in_the_way(path: Path) -> str:
    """Why the path can be no folder, '' if it is one or may become one: a link to nothing, a file."""
    try:
        if path.is_symlink() and not path.exists():
            return f"{path} is a link to {os.readlink(path)}, which is not there"
        return f"{path} is a file, not a folder" if path.exists() and not path.is_dir() else ""
    except OSError:
        return ""


def exists(path: Path) -> bool:
    """Whether the path is there; False also where the disk does not answer (a lost file server, a damaged disk)."""
    try:
        return path.exists()
    except OSError:
        return False


def reason(error: OSError) -> str:
    """What failed, in the system's words."""
    return error.strerror or str(error)


def advice(error: OSError, otherwise: str = "") -> str:
    """What to do about an error of the disk, and what else would help."""
    known = ADVICE.get(error.errno or 0, "")
    return ", or ".join(filter(None, (known, otherwise))) or "see that it can be written"


def once(warn: Callable[[str], None]) -> Callable[[str], None]:
    """`warn`, but not twice in the same words."""
    reported: set[str] = set()

    def warn_once(text: str) -> None:
        if text not in reported:
            reported.add(text)
            warn(text)

    return warn_once


class Warnings:
    """A warning for each kind of error, not for each time: the next one after it has worked again."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._reported: dict[str, str] = {}

    def failed(self, what: str, error: OSError, consequence: str) -> None:
        """Say it, unless that was the last answer too."""
        if self._reported.get(what) != (text := reason(error)):
            self._reported[what] = text
            self._warn(f"{what}: {text}{consequence}")

    def worked(self, what: str) -> None:
        """Forget what was said."""
        self._reported.pop(what, None)


def expanded(path: str, name: str) -> str:
    """The path with `~` or `~user` at its beginning replaced by the home folder. `name` is its key or option.

    Raises UserError where there is no such home.
    """
    if not path.startswith("~"):
        return path
    if (full := os.path.expanduser(path)) == path:
        user = path[1:].partition("/")[0]
        cause = f"there is no user {user}" if user else "HOME is not set, and this user has no home folder"
        raise UserError(f"{name}={path}: {cause}", fix=f"write the path in full, or ./{path}")
    return full


def path(text: str) -> Path:
    """A path on a command line, for argparse: `~` is the home folder also where the shell did not say so."""
    try:
        return Path(expanded(text, "path"))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def sync_folder(folder: Path) -> None:
    """Make the names in the folder safe on the disk, where the file system can. Raises OSError."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise


def sync(handle: int) -> None:
    """Make an open file safe on the disk, where the file system can. Raises OSError."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_FLUSH:
            raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        sync(handle)
    finally:
        os.close(handle)


def _rename(old: Path, new: Path) -> None:
    deadline = time.monotonic() + RENAME_SECONDS
    while True:
        try:
            replace(old, new)
            return
        except OSError as error:
            if error.errno not in BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


class Counting(io.RawIOBase):
    """A stream that counts the bytes that are written to it, and keeps none."""

    count = 0

    def write(self, content: Any) -> int:
        """Count them; returns how many they are."""
        written = memoryview(content).nbytes
        self.count += written
        return written
