"""The processes of the other ranks on this host: who died, who was stopped."""

import os
import sys
import time
from pathlib import Path

from src.errors import PeerLost
from src.world.world import World

LOOK_SECONDS = 0.25  # between looks at the health of the others


class Peers:
    """Watches the other ranks through /proc, where a process is its pid and the time of its start."""

    def __init__(self, world: World) -> None:
        self._processes = world.all_gather((os.getpid(), _life(os.getpid())[1]))
        self._others = [rank for rank in range(world.size) if rank != world.rank]
        self._looked = 0.0
        self._reported: set[int] = set()

    def look(self) -> None:
        """Raise PeerLost if one died; say once if one is stopped. Cheap: looks a few times a second."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for rank in self._others:
            pid, born = self._processes[rank]
            state, start = _life(pid)
            if state in "ZX" or start != born:
                raise PeerLost(f"rank {rank} (pid {pid}) died")
            if rank not in self._reported and self.state(rank):
                self._reported.add(rank)
                print(f"waiting for rank {rank}{self.state(rank)}", file=sys.stderr, flush=True)

    def state(self, rank: int) -> str:
        """': pid N is stopped' if the rank's process is, else ''."""
        pid = self._processes[rank][0]
        return f": pid {pid} is stopped" if _life(pid)[0] in "Tt" else ""


def _life(pid: int) -> tuple[str, str]:
    """(state, start time) of a process as proc(5) has them; ("X", "") if it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return after_name[0], after_name[19]
    except OSError:
        return "X", ""
