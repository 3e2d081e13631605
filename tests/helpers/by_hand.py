"""Ranks without torchrun: RANK and WORLD_SIZE set by hand, or the variables of another launcher."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src import console, schema
from src.doctor.rehearsal import free_port
from src.world import world as worlds
from src.world.world import World
from tests.helpers.launched import is_launcher_s
from tests.helpers.ranks import Job, fork


def by_hand(
    size: int,
    work: Callable[[World], Any],
    folder: Path,
    settings: schema.Train | None = None,
    own: Callable[[int], dict[str, str]] | None = None,
    **variables: str,
) -> Job:
    """Run `work(world)` on ranks that know RANK, WORLD_SIZE and where to meet; `own` gives each other variables."""
    port = str(free_port())

    def join() -> Any:
        rank = int(os.environ["RANK"])
        for name in filter(is_launcher_s, list(os.environ)):
            del os.environ[name]
        default = {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": port}
        os.environ.update(default if own is None else own(rank))
        os.environ.update(variables)
        with console.one_line_errors(), worlds.join(settings or schema.Train(timeout_seconds=60)) as world:
            return work(world)

    return fork(size, join, folder)
