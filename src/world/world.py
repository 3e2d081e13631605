"""World: this process's rank among all, its device, and how the ranks agree on a decision."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist  # noqa: TID251
from torch.distributed import Store  # type: ignore[attr-defined]  # noqa: TID251

from src import environment
from src.errors import JobFailed, PeerLost, UserError
from src.schema import Train
from src.world.processes import Process, this_process
from src.world.rendezvous import is_open, open_store

T = TypeVar("T")

POLL_SECONDS = 0.5  # between two looks whether every node has decided
LOOK_SECONDS = 0.001, 0.02  # between two looks for rank 0's answer: at first, and at most
HEARTBEAT_SECONDS = 1.0
CAUSE = "lost"  # key of the first cause in the store; CAUSE/rank: that rank has read it
CAUSE_SECONDS = 1.0  # for a process to end after its sockets have closed, and for another host to record the cause
LINGER_SECONDS = 3.0  # how long rank 0, whose process is the store, lets the others read the first cause


@dataclass(frozen=True)
class World:
    """All ranks of the job, seen from one of them.

    `backend` is "none" for a world of one, else "gloo" (CPU) or "nccl" (GPU; what is agreed between hosts
    still goes over gloo). `timeout` is the longest wait for another rank, in seconds. `processes` are those of all
    ranks, in rank order.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    local_size: int = 1
    device: torch.device = torch.device("cpu")
    backend: str = "none"
    note: str = ""
    timeout: float = 300.0
    processes: list[Process] = field(default_factory=list, repr=False, compare=False)
    _store: Store | None = field(default=None, repr=False, compare=False)
    _decisions: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    @property
    def one_host(self) -> bool:
        """Whether all ranks share this machine."""
        return self.size == self.local_size

    def all_gather(self, value: T) -> list[T]:
        """Every rank's `value`, in rank order, on every rank. Any picklable value."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def rank0_decides(self, decide: Callable[[], T]) -> T:
        """Run `decide` on rank 0 alone; every rank gets its result, or its error.

        It may take longer than the collectives' timeout (a slow evaluation): the others wait as long as rank 0
        lives, which its heartbeat tells them. Raises PeerLost on the others where it does not.
        """
        if self._store is None:
            return decide()
        self._decisions[0] += 1
        answer: list[_Answer | None] = [None]
        key = f"decision/{self._decisions[0]}"
        if self.rank == 0:
            with _heartbeat(self._store, key):
                answer = [_answer(decide)]
            self._store.set(key, "")
        else:
            self._await_rank0(self._store, key)
        dist.broadcast_object_list(answer, src=0)
        return cast(T, _results(answer)[0])

    def _await_rank0(self, store: Store, key: str) -> None:
        """Wait for the key, as long as rank 0 lives: by its process on this host, else by its heartbeat.

        Seconds in which the store itself does not answer (rank 0 is suspended) do not count as silence.
        """
        pause, beat, silence = LOOK_SECONDS[0], b"", 0.0
        visible = 0 in self._neighbours()
        try:
            while not store.check([key]):
                looked = time.monotonic()
                time.sleep(pause)
                pause = min(2 * pause, LOOK_SECONDS[1])
                if store.check([CAUSE]):
                    raise PeerLost(store.get(CAUSE).decode())
                now = store.get(f"{key}/alive") if store.check([f"{key}/alive"]) else b""
                silence = 0.0 if now != beat else silence + min(time.monotonic() - looked, HEARTBEAT_SECONDS)
                beat = now
                if silence > self.timeout and not visible:
                    raise PeerLost(f"rank 0 gave no sign of life for {self.timeout:.0f} s")
        except RuntimeError as error:
            if isinstance(error, JobFailed):
                raise
            raise PeerLost(self._lost_peer("its store does not answer")) from None

    def each_node_decides(self, decide: Callable[[], T]) -> list[T]:
        """Run `decide` on the first rank of every node; each rank gets all results, or the first UserError.

        It may take longer than the collectives' timeout (a download): the ranks meet again and again.
        """
        if self.size == 1:
            return [decide()]
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(_answer, decide) if self.local_rank == 0 else None
            while True:
                wait([future] if future else [], POLL_SECONDS)
                answers = self.all_gather((future is not None, future.result() if future and future.done() else None))
                if all(answer for decides, answer in answers if decides):
                    return cast(list[T], _results([answer for _, answer in answers]))

    def first_cause(self, cause: str) -> str:
        """The cause that the first rank recorded when it lost another one; `cause` if this rank is the first.

        A rank that leaves takes others with it, and these must not be named for it.
        """
        if self._store is None or not is_open(self._store):  # the store is rank 0's, and ends with it
            return cause
        try:
            first = self._store.compare_set(CAUSE, "", cause).decode()
            self._store.set(f"{CAUSE}/{self.rank}", "")
        except RuntimeError:
            return cause
        return first or cause

    @contextmanager
    def naming_lost_peers(self) -> Iterator[None]:
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
            if ended := [rank for rank in self._neighbours() if self.processes[rank].has_ended]:
                return f"rank {ended[0]} (pid {self.processes[ended[0]].pid}) died"
            if cause := self._recorded_cause():
                return cause
            time.sleep(0.02)
        for rank in self._neighbours():
            if self.processes[rank].is_stopped:
                return f"rank {rank} did not come: pid {self.processes[rank].pid} is stopped"
        return f"rank {self.rank} lost the connection to another rank: {reason}"

    def _recorded_cause(self) -> str:
        """The first cause, '' if no rank has recorded one or the store is gone."""
        if self._store is None or not is_open(self._store):
            return ""
        try:
            return self._store.get(CAUSE).decode() if self._store.check([CAUSE]) else ""
        except RuntimeError:
            return ""

    def _neighbours(self) -> list[int]:
        """The other ranks whose processes this one can see."""
        if not self.processes or not self.processes[self.rank].start:
            return []
        here = self.processes[self.rank].namespace
        others = enumerate(self.processes)
        return [rank for rank, process in others if rank != self.rank and process.namespace == here]

    def let_others_read_cause(self) -> None:
        """Rank 0, before it leaves because of a lost rank: wait until the others have read the first cause."""
        if self.rank != 0 or self._store is None:
            return
        neighbours, deadline = self._neighbours(), time.monotonic() + LINGER_SECONDS
        unread = set(range(1, self.size))
        while unread and time.monotonic() < deadline:
            unread = {rank for rank in unread if not self._store.check([f"{CAUSE}/{rank}"])}
            unread -= {rank for rank in neighbours if self.processes[rank].has_ended}
            time.sleep(0.02)


@contextmanager
def _heartbeat(store: Store, key: str) -> Iterator[None]:
    """Tell the others every second that this rank lives, until the block ends."""
    ended = threading.Event()

    def beat() -> None:
        number = 0
        while not ended.wait(HEARTBEAT_SECONDS):
            number += 1
            store.set(f"{key}/alive", str(number))

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass(frozen=True)
class _Answer:
    """What a deciding rank tells the others."""

    result: object = None
    error: UserError | JobFailed | None = None


def _answer(decide: Callable[[], object]) -> _Answer:
    try:
        return _Answer(result=decide())
    except (UserError, JobFailed) as error:
        return _Answer(error=error)


def _results(answers: list[_Answer | None]) -> list[object]:
    """What was decided; raises the first error. None stands for a rank that does not decide."""
    given = [answer for answer in answers if answer is not None]
    for answer in given:
        if answer.error is not None:
            raise answer.error
    return [answer.result for answer in given]


@contextmanager
def join(settings: Train) -> Iterator[World]:
    """Meet the other ranks, and part from them once. Raises UserError for an impossible environment."""
    torch.set_num_threads(settings.threads)
    ranks = environment.ranks()
    device, note = _device(settings.device, ranks.local_rank, ranks.local_size)
    if ranks.size == 1:
        yield World(device=device, note=note)
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    one_host = ranks.size == ranks.local_size
    if one_host:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo looks the host's name up, for minutes
    timeout = timedelta(seconds=settings.timeout_seconds)
    store = open_store(ranks.rank, ranks.size, one_host, timeout)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if backend == "nccl" else "gloo",
        store=store,
        rank=ranks.rank,
        world_size=ranks.size,
        timeout=timeout,
        device_id=device if backend == "nccl" else None,
    )
    world = World(
        ranks.rank,
        ranks.local_rank,
        ranks.size,
        ranks.local_size,
        device,
        backend,
        note,
        settings.timeout_seconds,
        [],
        store,
    )
    world.processes.extend(world.all_gather(this_process()))
    try:
        with world.naming_lost_peers():
            yield world
    except PeerLost:
        world.let_others_read_cause()
        raise
    # Only after a good end: a rank that failed must not wait here for the others.
    dist.destroy_process_group()


def hosts(world: World) -> list[str]:
    """The host name of every rank, in rank order."""
    return world.all_gather(socket.gethostname())


def backends() -> dict[str, str]:
    """The backends that this torch was built with, and the version of those that have one of their own."""
    found = {"gloo": ""} if dist.is_gloo_available() else {}
    if dist.is_nccl_available():
        found["nccl"] = ".".join(str(part) for part in torch.cuda.nccl.version())  # type: ignore[no-untyped-call]
    return found


def _device(wanted: str, local_rank: int, local_size: int) -> tuple[torch.device, str]:
    """The device of this rank, and a note where it is not what one would expect."""
    gpus = torch.cuda.device_count() if wanted != "cpu" else 0
    if gpus >= local_size:
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank), ""
    if wanted == "cuda":
        raise UserError(
            f"train.device=cuda: {local_size} ranks on this host, {gpus} GPUs",
            fix=f"start {gpus} ranks" if gpus else "use train.device=cpu",
        )
    note = f"{local_size} ranks but only {gpus} GPU(s): training on CPU" if gpus else ""
    return torch.device("cpu"), note
