"""The seal of a checkpoint's file: the SHA-256 of all that stands before it, as the comment of its zip archive.

Imports no torch: a launcher on a login node looks whether a file is whole.
"""

import hashlib
import io
import os
from pathlib import Path

MARK = b"sha256:"
LENGTH = len(MARK) + 64


def add(stream: io.BufferedRandom) -> str:
    """Append the seal to a zip archive that has no comment (its last two bytes, the comment's length, are 0).

    Returns the SHA-256 in hex.
    """
    stream.seek(-2, os.SEEK_END)
    stream.write(LENGTH.to_bytes(2, "little"))
    stream.seek(0)
    digest = hashlib.file_digest(stream, "sha256").hexdigest()
    stream.seek(0, os.SEEK_END)
    stream.write(MARK + digest.encode())
    return digest


def given(content: bytes) -> str | None:
    """The SHA-256 that a file's bytes are sealed with; None for bytes without a seal."""
    comment = content[-LENGTH:]
    return comment[len(MARK) :].decode("ascii", "replace") if comment.startswith(MARK) else None


def is_broken(content: bytes) -> bool:
    """Whether the bytes are not those that were sealed; False for bytes without a seal."""
    digest = given(content)
    return digest is not None and digest != hashlib.sha256(memoryview(content)[:-LENGTH]).hexdigest()


def is_whole(file: Path) -> bool:
    """Whether the file is there, sealed, and holds what it was sealed with."""
    try:
        content = file.read_bytes()
    except OSError:
        return False
    return given(content) is not None and not is_broken(content)


def of(file: Path) -> str:
    """The SHA-256 that the file says it was sealed with, '' if it has none. Raises OSError."""
    with file.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - LENGTH))
        return given(stream.read()) or ""
