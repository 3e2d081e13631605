"""An object store, or a folder, behind a URL: what is written there is whole under its name, or not there.

S3 and Google's and Azure's stores make an object appear at once when its last byte has come; elsewhere a file is
written beside its name and renamed.
"""

import errno
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from src.addresses import HIDDEN, without_secrets
from src.errors import UserError

T = TypeVar("T")
ATOMIC = {"s3", "s3a", "gs", "gcs", "az", "abfs", "memory"}
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
CONNECT_SECONDS, SILENT_SECONDS, TRIES = 5, 15, 2  # botocore's own limits add up to minutes
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG)


class StoreFailed(OSError):
    """The store did not do it; says why in one line, without secrets."""


class Store:
    """The files below a URL, by their names relative to it. `shown` is the URL without secrets.

    Raises UserError for a URL that is none, or whose package is not installed.
    """

    def __init__(self, url: str, key: str) -> None:
        self.shown = without_secrets(url)
        protocol = url.partition("://")[0]
        if "://" not in url:
            raise UserError(f"{key}={self.shown}: must be a URL such as s3://bucket/prefix or file:///mnt/mirror")
        if HIDDEN in url:
            fix = f"give {key}= again"
            raise UserError(f"{key}={self.shown}: its password is not kept with a run", fix=fix)
        package = PACKAGES.get(protocol, "fsspec")
        try:
            from fsspec.core import url_to_fs  # noqa: TID251

            self._system, self._root = url_to_fs(url, **_limits(protocol))
        except ImportError:
            fix = f"uv pip install {package} (or pip install {package})"
            raise UserError(f"{key}={self.shown}: the package {package} is not installed", fix=fix) from None
        except ValueError as error:
            raise UserError(f"{key}={self.shown}: {without_secrets(str(error))}") from None
        except Exception as error:
            raise UserError(f"{key}={self.shown}: {_reason(error)}") from None
        self._is_atomic = protocol in ATOMIC
        self._system.retries = TRIES

    def read(self, name: str) -> bytes | None:
        """The content of a file, None where there is none. Raises StoreFailed."""
        try:
            return self._ask(lambda: bytes(self._system.cat_file(self._path(name))))
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Write a small file. Raises StoreFailed."""
        self._put(name, lambda path: self._system.pipe_file(path, content))

    def upload(self, file: Path, name: str) -> None:
        """Copy a file into the store. Raises StoreFailed, and FileNotFoundError where the file has gone."""
        with file.open("rb"):
            try:
                self._put(name, lambda path: self._system.put_file(str(file), path))
            except StoreFailed:
                file.stat()
                raise

    def download(self, name: str, file: Path) -> None:
        """Copy a file out of the store. Raises StoreFailed, FileNotFoundError, and OSError of this disk."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._ask(lambda: self._system.get_file(self._path(name), str(file)))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there. Raises StoreFailed."""
        try:
            self._ask(lambda: self._system.rm_file(self._path(name)))
        except FileNotFoundError:
            return

    def _put(self, name: str, write: Callable[[str], object]) -> None:
        path = self._path(name)
        folder, base = posixpath.split(path)
        try:
            if self._is_atomic:
                self._ask(lambda: write(path))
                return
            part = posixpath.join(folder, f".{base}.part")
            self._ask(lambda: self._system.makedirs(folder, exist_ok=True))
            self._ask(lambda: write(part))
            self._ask(lambda: self._system.mv(part, path))
        except FileNotFoundError as error:  # no such bucket
            raise StoreFailed(_reason(error)) from None

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _ask(self, question: Callable[[], T]) -> T:
        """The answer. Raises FileNotFoundError, OSError of this disk, and StoreFailed for everything else."""
        try:
            return question()
        except FileNotFoundError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK:
                raise
            raise StoreFailed(_reason(error)) from None


def _limits(protocol: str) -> dict[str, Any]:
    """How long to wait for a store that does not answer."""
    if protocol not in ("s3", "s3a"):
        return {}
    waits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": SILENT_SECONDS, "retries": {"max_attempts": 0}}
    return {"config_kwargs": waits, "use_listings_cache": False}


def _reason(error: Exception) -> str:
    """The error in one line, in the same words for every file."""
    text = " ".join(str(error).split()) or type(error).__name__
    return without_secrets(re.sub(r"[:,]? *(URL)?:? *\"?\w+://\S+", "", text))
