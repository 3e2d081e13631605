"""A checkpoint's file: whole or not there, hashed, and read without running what it holds.

It is torch.save's own zip archive, whose comment holds the SHA-256 of everything before it: one rename makes both
appear, and torch.load(weights_only=True) reads it as it is.
"""

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from src import files
from src.errors import Damaged, UserError
from src.run import seal

FORMAT = 2  # 1: no model file, other names in `progress`


def write(file: Path, content: dict[str, Any]) -> str:
    """Save `content` so that `file` is the whole new one or untouched, power cut included; returns its SHA-256.

    Raises OSError (a full disk) and leaves nothing behind.
    """
    try:
        with files.whole(file) as temporary, temporary.open("w+b") as stream:
            torch.save(content, stream)
            digest = seal.add(stream)
    except RuntimeError as error:  # torch.save hides what failed behind a message about itself
        raise _of_the_disk(error) or error from None
    return digest


def size(content: dict[str, Any]) -> int:
    """The bytes of the file that `write` makes of the content; nothing is kept."""
    counting = files.Counting()
    torch.save(content, cast(Any, counting))
    return counting.count + seal.LENGTH


def check(state: dict[str, Any]) -> None:
    """Raise UserError for a state dict that could be written, and not be read again. Costs no copy of its tensors."""
    stream = io.BytesIO()
    try:
        torch.save(_shrunk(state), stream)
        stream.seek(0)
        torch.load(stream, weights_only=True)
    except (pickle.PickleError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).replace("WeightsUnpickler error: ", "").split())[:160]
        raise UserError(
            f"the module's state_dict holds what no checkpoint can hold ({reason})",
            fix="keep to tensors, numbers, texts, lists and dicts in get_extra_state",
        ) from None


def _shrunk(value: Any) -> Any:
    """The same structure, its tensors of one element."""
    if isinstance(value, Tensor):
        return value.detach().flatten()[:1].cpu().clone()
    if type(value) is dict or isinstance(value, OrderedDict):
        return {name: _shrunk(inner) for name, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_shrunk(inner) for inner in value)
    return value


def _of_the_disk(error: BaseException) -> OSError | None:
    """The OSError behind an error, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    return cause


def read(file: Path) -> dict[str, Any]:
    """A checkpoint's content, its tensors on the CPU.

    Raises Damaged, or UserError for a file that would run code, is not ours or is of a newer format.
    """
    try:
        whole = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    sealed = seal.given(whole) is not None
    if seal.is_broken(whole):
        raise Damaged(f"{file}: its SHA-256 is not the one it was written with")
    if not sealed and not whole.startswith(b"PK"):
        raise Damaged(f"{file}: is truncated or no checkpoint")
    return _checked(file, sealed)


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
    if not isinstance(weights, dict) or not any(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{file}: is no checkpoint of this job: it holds no model")
    return _upgraded(content)


def _upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """Format 1 was written for pictures of 28 x 28 pixels in ten classes alone."""
    if content["format"] == 1:
        content["data"] = {"shape": (28, 28), "dtype": torch.uint8, "classes": 10}
    return content
