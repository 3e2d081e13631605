"""A checkpoint's file: whole or not there, hashed, and read without running what it holds.

It is torch.save's own zip archive, whose comment holds the SHA-256 of everything before it: one rename makes both
appear, and torch.load(weights_only=True) reads it as it is.
"""

import hashlib
import io
import os
import pickle
from os import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.errors import UserError

FORMAT = 1
MARK = b"sha256:"
COMMENT = len(MARK) + 64


class Damaged(Exception):
    """The file's bytes are not those that were written."""


def write(file: Path, content: dict[str, Any]) -> str:
    """Save `content` so that `file` is the whole new one or untouched, power cut included; returns its SHA-256.

    Raises OSError (a full disk) and leaves nothing behind.
    """
    temporary = file.with_name(f".{file.name}.part")
    try:
        with temporary.open("w+b") as stream:
            torch.save(content, stream)
            digest = _seal(stream)
            stream.flush()
            os.fsync(stream.fileno())
        replace(temporary, file)
        sync(file.parent)
    except RuntimeError as error:  # torch.save hides what failed behind a message about itself
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return digest


def _seal(stream: io.BufferedRandom) -> str:
    """Append the comment to a zip archive that has none (its last two bytes, the comment's length, are 0)."""
    stream.seek(-2, os.SEEK_END)
    stream.write(COMMENT.to_bytes(2, "little"))
    stream.seek(0)
    digest = hashlib.file_digest(stream, "sha256").hexdigest()
    stream.seek(0, os.SEEK_END)
    stream.write(MARK + digest.encode())
    return digest


def sync(folder: Path) -> None:
    """Make what was renamed in the folder safe on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(file: Path) -> dict[str, Any]:
    """A checkpoint's content, its tensors on the CPU.

    Raises Damaged, or UserError for a file that would run code, is not ours or is of a newer format.
    """
    try:
        whole = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    body, comment = whole[:-COMMENT], whole[-COMMENT:]
    if comment.startswith(MARK) and comment[len(MARK) :].decode("ascii", "replace") != _sha256(body):
        raise Damaged(f"{file}: its SHA-256 is not the one it was written with")
    if not comment.startswith(MARK) and not whole.startswith(b"PK"):
        raise Damaged(f"{file}: is truncated or no checkpoint")
    return _checked(file, comment.startswith(MARK))


def _checked(file: Path, sealed: bool) -> dict[str, Any]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"{file}: holds more than tensors and numbers, loading it could run code: refused") from None
    except (RuntimeError, EOFError, ValueError, OSError):
        raise Damaged(f"{file}: is truncated or damaged") from None
    if not sealed:
        raise Damaged(f"{file}: has no SHA-256: truncated, or not written by this job")
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise UserError(f"{file}: is no checkpoint of this job")
    if content["format"] > FORMAT:
        raise UserError(f"{file}: is of format {content['format']}, this code reads up to {FORMAT}: update the code")
    weights = content.get("model")
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise UserError(f"{file}: is no checkpoint of this job: it holds no model")
    return content


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
