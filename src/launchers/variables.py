"""Numbers in the environment, which may hold anything, and what those of a launcher say."""

import os
import re
from dataclasses import dataclass, field

from src.errors import UserError

DIGITS = 18  # a longer number is none of a rank, a port, a job or a second


def text(name: str) -> str:
    """The variable without surrounding spaces; '' where it is not set: an empty variable says nothing."""
    return os.environ.get(name, "").strip()


def whole(value: str) -> int | None:
    """The number that these ASCII digits are, None for anything else (str.isdigit knows digits that int does not)."""
    return int(value) if re.fullmatch(rf"[0-9]{{1,{DIGITS}}}", value) else None


def number(name: str, fix: str) -> int | None:
    """The variable's whole number, None where it is not set. Raises UserError for anything else."""
    value = text(name)
    if not value:
        return None
    if (found := whole(value)) is None:
        raise UserError(f"{name}={value[:60]}: must be a whole number", fix=fix)
    return found


@dataclass(frozen=True)
class Claim:
    """That this process is one of several.

    `values` are the variables that say so, for messages; `local_rank` counts the ranks of its host. `hosts` are those
    of the ranks, the first rank's first, empty if they are not known; on `port` of the first one the ranks meet.
    """

    launcher: str
    values: str
    rank: int
    size: int
    local_rank: int | None = None
    hosts: list[str] = field(default_factory=list)
    port: int = 0
