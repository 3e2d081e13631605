"""Summing through memory that the ranks of one host share: some 5 microseconds of work, no socket.

One file in /dev/shm, mapped by all and unlinked at once, so that nothing stays behind whoever dies:

    flags    one 64-bit counter per rank, each on a cache line of its own
    notes    2 sets x slots x NOTES doubles
    data     2 sets x slots x CAPACITY bytes

In round r a rank writes its slots of set r % 2, then raises its flag to r, waits until every flag is at
least r, and adds all slots in slot order. Two sets are enough: who writes round r + 2 has seen all flags at
r + 1, and a rank raises that one only after it has read round r. The flag may be seen only after the data
it stands for, which plain stores guarantee on x86-64 and not elsewhere.
"""

import mmap
import os
import platform
import select
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from src.config import JobFailed
from src.distributed import World

NOTES = 2  # doubles that travel beside each slot's data
CAPACITY = 1 << 20  # bytes per slot; more goes through in several rounds
CACHE_LINE = 64
FOLDER = Path("/dev/shm")

YIELDS = 2000  # a step is over sooner; then a waiting rank sleeps rather than burn a core
SLEEP_SECONDS = 0.0001
LOOK_SECONDS = 0.25  # between looks at the health of the others


class PeerLost(JobFailed):
    """Another rank died, or did not come within the timeout; the message names it."""


def objection(world: World) -> str:
    """Why these ranks cannot exchange through shared memory, or ''; the same on all ranks."""
    if world.device.type != "cpu":
        return "the ranks train on GPUs"
    if not world.one_host:
        return "the ranks are on several hosts"
    own = (platform.machine(), _namespace(), FOLDER.is_dir())
    if any(other != own for other in world.gather(own)):
        return "the ranks are in different containers"
    if own[0] != "x86_64" or sys.platform != "linux":
        return f"the processor is {own[0]}, not x86-64 under Linux"
    return "" if own[2] else f"there is no {FOLDER}"


def _namespace() -> str:
    """Names the process name space, inside which pids mean the same to all."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return "?"


class SharedMemory:
    """Adds `slots` tensors that the ranks hold between them; `own` are this rank's slots.

    Every rank must make it at the same time and call `sum` equally often with equally long tensors.
    """

    name = "shared memory"

    def __init__(self, world: World, slots: int, own: range, timeout: float) -> None:
        self._rank, self._slots, self._own, self._timeout = world.rank, slots, own, timeout
        self._others = [rank for rank in range(world.size) if rank != world.rank]
        self._memory = _share(world, self._size(world.size))
        view = memoryview(self._memory)
        notes_at, data_at = self._offsets(world.size)
        self._flags = view[:notes_at].cast("q")
        self._notes = view[notes_at:data_at].cast("d")
        self._data = torch.frombuffer(self._memory, dtype=torch.uint8, offset=data_at).view(2, slots, CAPACITY)
        self._views: dict[tuple[int, int, torch.dtype], list[Tensor]] = {}
        self._peers = Peers(world)
        self._round = 0
        self.waited = 0.0  # seconds that this rank has waited for others

    def _offsets(self, world_size: int) -> tuple[int, int]:
        notes_at = _pages(world_size * CACHE_LINE)
        return notes_at, notes_at + _pages(2 * self._slots * NOTES * 8)

    def _size(self, world_size: int) -> int:
        return self._offsets(world_size)[1] + 2 * self._slots * CAPACITY

    def sum(self, mine: Sequence[Tensor], notes: Sequence[Sequence[float]], total: Tensor) -> list[float]:
        """Write into `total` the sum of all slots, added in slot order; return the sums of the notes.

        `mine` holds the flat tensors (n,) of this rank's own slots, `notes` NOTES numbers for each, `total`
        is (n,) too and may be one of them. Raises PeerLost.
        """
        size = CAPACITY // total.element_size()
        for start in range(0, total.numel(), size):
            last = start + size >= total.numel()
            self._exchange([part[start : start + size] for part in mine] if size < total.numel() else mine, notes)
            self._add(total[start : start + size] if size < total.numel() else total)
            if last:
                break
        return self._sum_notes()

    def _exchange(self, mine: Sequence[Tensor], notes: Sequence[Sequence[float]]) -> None:
        self._round += 1
        side = self._round & 1
        views = self._slot_views(side, mine[0].numel(), mine[0].dtype) if mine else []
        for slot, tensor, note in zip(self._own, mine, notes, strict=True):
            views[slot].copy_(tensor)
            at = (side * self._slots + slot) * NOTES
            for offset, value in enumerate(note):
                self._notes[at + offset] = value
        self._flags[self._rank * (CACHE_LINE // 8)] = self._round
        self._wait()

    def _slot_views(self, side: int, length: int, dtype: torch.dtype) -> list[Tensor]:
        """The slots of a side as tensors (length,); kept, for making them takes as long as adding them."""
        views = self._views.get((side, length, dtype))
        if views is None:
            views = [slot.view(dtype)[:length] for slot in self._data[side]]
            self._views[side, length, dtype] = views
        return views

    def _add(self, total: Tensor) -> None:
        first, *rest = self._slot_views(self._round & 1, total.numel(), total.dtype)
        total.copy_(first)
        for slot in rest:
            total.add_(slot)

    def _sum_notes(self) -> list[float]:
        start = (self._round & 1) * self._slots * NOTES
        values = self._notes[start : start + self._slots * NOTES].tolist()
        return [sum(values[note::NOTES]) for note in range(NOTES)]

    def _wait(self) -> None:
        flags, due, line = self._flags, self._round, CACHE_LINE // 8
        began = time.perf_counter()
        for rank in self._others:
            at, turns = rank * line, 0
            while flags[at] < due:
                turns += 1
                if turns < YIELDS:
                    os.sched_yield()
                else:
                    self._rest(rank, began)
        self.waited += time.perf_counter() - began

    def _rest(self, rank: int, began: float) -> None:
        time.sleep(SLEEP_SECONDS)
        self._peers.look()
        if time.perf_counter() - began > self._timeout:
            raise PeerLost(f"rank {rank} did not come within {self._timeout:.0f} s{self._peers.state(rank)}")


class Peers:
    """The processes of the other ranks: who died, who was stopped."""

    def __init__(self, world: World) -> None:
        self._pids = world.gather(os.getpid())
        self._looked = 0.0
        self._told: set[int] = set()
        self._poll = select.poll()
        self._ranks: dict[int, int] = {}
        for rank, pid in enumerate(self._pids):
            if rank != world.rank:
                try:
                    handle = os.pidfd_open(pid)
                except ProcessLookupError:
                    raise PeerLost(f"rank {rank} (pid {pid}) died") from None
                self._ranks[handle] = rank
                self._poll.register(handle, select.POLLIN)

    def look(self) -> None:
        """Raise PeerLost if one died; say once if one is stopped. Cheap: looks a few times a second."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if gone := self._poll.poll(0):
            rank = self._ranks[gone[0][0]]
            raise PeerLost(f"rank {rank} (pid {self._pids[rank]}) died")
        for rank in self._ranks.values():
            if rank not in self._told and self.state(rank):
                self._told.add(rank)
                print(f"waiting for rank {rank}{self.state(rank)}", file=sys.stderr, flush=True)

    def state(self, rank: int) -> str:
        """': pid N is stopped' if the rank's process is, else ''."""
        try:
            after_name = Path(f"/proc/{self._pids[rank]}/stat").read_text().rpartition(")")[2]
        except OSError:
            return ""
        return f": pid {self._pids[rank]} is stopped" if after_name.split()[0] in "Tt" else ""


def _share(world: World, size: int) -> mmap.mmap:
    """Map one new file of `size` bytes on all ranks; it has no name any more when this returns."""
    path = FOLDER / world.gather(f"ranks-{os.getpid()}-{time.monotonic_ns()}")[0]
    try:
        if world.rank == 0:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.posix_fallocate(handle, 0, size)  # a full /dev/shm is an error here, not a SIGBUS in a step
        world.barrier()
        if world.rank != 0:
            handle = os.open(path, os.O_RDWR)
        memory = mmap.mmap(handle, size)
        os.close(handle)
        world.barrier()
    finally:
        if world.rank == 0:
            path.unlink(missing_ok=True)
    return memory


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
