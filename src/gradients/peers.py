"""Watches the other ranks on this host while a rank waits for them: who died, who is stopped."""

import sys
import time

from src.errors import PeerLost
from src.world.world import World

LOOK_SECONDS = 0.25  # between looks at the health of the others


class Peers:
    """Watches the processes of the other ranks, all of which this one can see."""

    def __init__(self, world: World) -> None:
        self._processes = world.processes
        self._others = [rank for rank in range(world.size) if rank != world.rank]
        self._looked = 0.0
        self._reported: set[int] = set()

    def look(self) -> None:
        """Raise PeerLost if one died; print once if one is stopped. Cheap: looks a few times a second."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        for rank in self._others:
            if self._processes[rank].has_ended:
                raise PeerLost(f"rank {rank} (pid {self._processes[rank].pid}) died")
            if rank not in self._reported and self.state(rank):
                self._reported.add(rank)
                print(f"waiting for rank {rank}{self.state(rank)}", file=sys.stderr, flush=True)

    def state(self, rank: int) -> str:
        """': pid N is stopped' if the rank's process is, else ''."""
        process = self._processes[rank]
        return f": pid {process.pid} is stopped" if process.is_stopped else ""
