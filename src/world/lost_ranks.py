"""Ranks that are lost: which one was the first, although each that leaves takes others with it."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from src.errors import JobFailed, PeerLost
from src.world import roll_call
from src.world.decisions import HEARTBEAT_SECONDS
from src.world.processes import Process
from src.world.rendezvous import STORE_REQUESTS, Store, is_open, store_port

LOOK_SECONDS = 0.001, 0.02  # between two looks for rank 0's answer: at first, and later, where the store bears it
LOOK_REQUESTS = 3
CAUSE = "lost"  # key of the first cause in the store
READ = "lost/read"  # key of the roll call of the ranks that have read it
CAUSE_SECONDS = 1.0  # for a process to end after its sockets have closed, and for another host to record the cause
LINGER_SECONDS = 3.0  # how long rank 0, whose process is the store, lets the others read the first cause


class LostRanks:
    """What one rank knows of the others: their processes, as far as it sees them, and the store that they share."""

    def __init__(self, rank: int, processes: list[Process], store: Store, timeout: float) -> None:
        self._rank, self._processes, self._store, self._timeout = rank, processes, store, timeout

    def await_rank0(self, key: str) -> None:
        """Wait for the key, as long as rank 0 lives: by its process on this host, else by its heartbeat.

        Seconds in which the store itself does not answer (rank 0 is suspended) do not count as silence.
        """
        pause, beat, silence = LOOK_SECONDS[0], 0, 0.0
        longest = max(LOOK_SECONDS[1], LOOK_REQUESTS * len(self._processes) / STORE_REQUESTS)
        visible = 0 in self._neighbours()
        try:
            while not self._store.check([key]):
                looked = time.monotonic()
                time.sleep(pause)
                pause = min(2 * pause, longest)
                if self._store.check([CAUSE]):
                    raise PeerLost(self._store.get(CAUSE).decode())
                now = self._store.add(f"{key}/alive", 0)
                silence = 0.0 if now != beat else silence + min(time.monotonic() - looked, HEARTBEAT_SECONDS)
                beat = now
                if silence > self._timeout and not visible:
                    raise PeerLost(f"rank 0 gave no sign of life for {self._timeout:.0f} s")
        except RuntimeError as error:
            if isinstance(error, JobFailed):
                raise
            raise PeerLost(self._lost_peer("its store does not answer")) from None

    def first_cause(self, cause: str) -> str:
        """The cause that the first rank recorded when it lost another one; `cause` if this rank is the first.

        A rank that leaves takes others with it, and these must not be named for it.
        """
        if 0 in self._neighbours() and self._processes[0].has_ended:
            return cause  # the store was rank 0's, and asking it would print torch's own warnings
        if not is_open(self._store):
            return cause
        try:
            first = self._store.compare_set(CAUSE, "", cause).decode()
            roll_call.enter(self._store, READ, self._rank)
        except RuntimeError:
            return cause
        return first or cause

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn the backend's error about a rank that is gone into PeerLost, with the first cause."""
        try:
            yield
        except PeerLost as error:
            raise PeerLost(self.first_cause(str(error))) from None
        except RuntimeError as error:
            if "/gloo/" not in str(error):
                raise
            line = str(error).partition("] ")[2].partition("\n")[0]
            reason = line.partition(". ")[0]  # without gloo's source line, its advice and the Python stack
            raise PeerLost(self.first_cause(self._lost_peer(reason))) from None

    def _lost_peer(self, reason: str) -> str:
        """Which rank was lost, as far as this rank can know: it sees the processes of its own host alone.

        Waits for up to CAUSE_SECONDS, in which a rank of the other host records what that one sees.
        """
        deadline = time.monotonic() + CAUSE_SECONDS
        while time.monotonic() < deadline:
            if ended := [rank for rank in self._neighbours() if self._processes[rank].has_ended]:
                return f"rank {ended[0]} (pid {self._processes[ended[0]].pid}) died"
            if self._has_invisible_ranks() and (cause := self._recorded_cause()):
                return cause
            time.sleep(0.02)
        for rank in self._neighbours():
            if self._processes[rank].is_stopped:
                return f"rank {rank} did not come: pid {self._processes[rank].pid} is stopped"
        return f"rank {self._rank} lost the connection to another rank: {reason}"

    def _has_invisible_ranks(self) -> bool:
        """Whether there are ranks on other hosts, or in other containers."""
        return len(self._neighbours()) + 1 < len(self._processes)

    def _recorded_cause(self) -> str:
        """The first cause, '' if no rank has recorded one or the store is gone."""
        if not is_open(self._store):
            return ""
        try:
            return self._store.get(CAUSE).decode() if self._store.check([CAUSE]) else ""
        except RuntimeError:
            return ""

    def _neighbours(self) -> list[int]:
        """The other ranks whose processes this one can see."""
        if not self._processes or not self._processes[self._rank].start:
            return []
        here = self._processes[self._rank].namespace
        others = enumerate(self._processes)
        return [rank for rank, process in others if rank != self._rank and process.namespace == here]

    def let_others_read_cause(self) -> None:
        """Rank 0, before it leaves because of a lost rank: wait until the others have read the first cause."""
        if self._rank != 0:
            return
        hang_up(
            store_port(self._store)
        )  # a rank that waits for this one, which has left the step, would wait to its end
        neighbours, deadline = self._neighbours(), time.monotonic() + LINGER_SECONDS
        unread = set(range(1, len(self._processes)))
        while unread and time.monotonic() < deadline:
            unread -= set(roll_call.entered(self._store, READ))
            unread -= {rank for rank in neighbours if self._processes[rank].has_ended}
            time.sleep(0.02)


def hang_up(kept: int) -> None:
    """Close this process's TCP connections but those of the port `kept`: who waits at the other end gets an error."""
    for entry in os.listdir("/proc/self/fd"):
        with suppress(OSError), socket.socket(fileno=os.dup(int(entry))) as other:
            is_tcp = other.family in (socket.AF_INET, socket.AF_INET6) and other.type == socket.SOCK_STREAM
            if is_tcp and kept not in (other.getsockname()[1], other.getpeername()[1]):
                other.shutdown(socket.SHUT_RDWR)
