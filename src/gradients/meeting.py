"""Where the ranks of a host meet: nobody goes on before all are there, some microseconds after the last one came.

Each rank has a counter in shared memory, on a cache line of its own: its flag. To meet, a rank raises its flag and
waits until every flag is as high. The flag may be seen only after what was written before it, which plain stores
guarantee on x86-64 and not elsewhere (memcpy, which may pass the cache by, fences such stores itself).
"""

import os
import time

from src.errors import PeerLost
from src.gradients.peers import Peers
from src.world.world import World

CACHE_LINE = 64
YIELDS = 2000  # a step is over sooner; then a waiting rank sleeps rather than burn a core
SLEEP_SECONDS = 0.0001
LONGEST_REST_SECONDS = 0.1  # what is longer was a suspension of this process, which says nothing about the others


class Meeting:
    """`flags` are zeros, CACHE_LINE bytes for each rank, as 64-bit numbers. All ranks meet equally often."""

    def __init__(self, world: World, flags: "memoryview[int]", timeout: float) -> None:
        self._rank, self._flags, self._timeout = world.rank, flags, timeout
        self._others = [rank for rank in range(world.size) if rank != world.rank]
        self._peers = Peers(world)
        self._meetings = 0
        self.waited = 0.0  # seconds that this rank has waited for others

    def meet(self) -> None:
        """Return when all ranks are here; what they wrote before can be read. Raises PeerLost."""
        self._meetings += 1
        self._flags[self._rank * (CACHE_LINE // 8)] = self._meetings
        flags, due, line = self._flags, self._meetings, CACHE_LINE // 8
        began, patience = time.perf_counter(), self._timeout
        for rank in self._others:
            at, turns = rank * line, 0
            while flags[at] < due:
                turns += 1
                if turns < YIELDS:
                    os.sched_yield()
                else:
                    patience -= self._rest(rank, patience)
        self.waited += time.perf_counter() - began

    def _rest(self, rank: int, patience: float) -> float:
        """Sleep; returns for how many seconds. Raises PeerLost if the rank died, or if no patience is left."""
        began = time.perf_counter()
        time.sleep(SLEEP_SECONDS)
        self._peers.look()
        if patience > 0:
            return min(time.perf_counter() - began, LONGEST_REST_SECONDS)
        raise PeerLost(f"rank {rank} did not come within {self._timeout:.0f} s{self._peers.state(rank)}")
