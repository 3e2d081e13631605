"""The rank of this process and how many there are, from the environment variables. Imports no torch."""

import os
from dataclasses import dataclass

from src.errors import UserError

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Ranks:
    """This process's rank, how many ranks there are, and the same on this host alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def ranks() -> Ranks:
    """The ranks by torchrun's variables; a world of one where none is set. Raises UserError for impossible ones."""
    given = {name: os.environ[name] for name in NAMES if name in os.environ}
    if not given:
        return Ranks()
    if "RANK" not in given or "WORLD_SIZE" not in given:
        missing = "WORLD_SIZE" if "RANK" in given else "RANK"
        values = " ".join(f"{name}={value}" for name, value in given.items())
        raise UserError(
            f"{values}: set, but {missing} is not", fix="start with torchrun, or unset them for one process"
        )
    for name, value in given.items():
        if not value.isdigit():
            raise UserError(f"{name}={value}: must be a whole number")
    rank, size = int(given["RANK"]), int(given["WORLD_SIZE"])
    if rank >= size:
        raise UserError(f"RANK={rank} WORLD_SIZE={size}: the rank must be below the world size")
    return Ranks(rank, size, int(given.get("LOCAL_RANK", rank)), int(given.get("LOCAL_WORLD_SIZE", size)))


def is_rank0() -> bool:
    """Whether this process is rank 0; in an impossible environment every process is, or none would report it."""
    try:
        return ranks().rank == 0
    except UserError:
        return True
