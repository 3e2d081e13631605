"""World: this process's rank among all, its device, and how the ranks agree on a decision."""

import resource
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist  # noqa: TID251
from torch.distributed import DebugLevel, get_debug_level, set_debug_level  # type: ignore[attr-defined]  # noqa: TID251

from src import environment
from src.environment import Ranks
from src.errors import PeerLost
from src.schema import Train
from src.world import interfaces
from src.world.decisions import Answer, answer_of, heartbeat, results_of
from src.world.devices import choose, visible_gpus
from src.world.hosts import Peer, exchanged, identity, place
from src.world.lost_ranks import LostRanks
from src.world.processes import Process, this_process
from src.world.rendezvous import Store, meeting_address, open_store

T = TypeVar("T")

OPEN_FILES = 500  # of a rank, without its connections to others
LONGEST_SECONDS = 1e9  # what torch can count in nanoseconds; thirty years
POLL_SECONDS = 0.5  # between two looks whether every node has decided


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
    _lost: LostRanks | None = field(default=None, repr=False, compare=False)
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

    def all_gather_numbers(self, numbers: torch.Tensor) -> list[list[float]]:
        """Every rank's `numbers` (n,), in rank order: quicker than `all_gather`, which sends lengths first."""
        mine = numbers.cpu()
        if self.size == 1:
            return [mine.tolist()]
        rows = mine.new_empty(self.size, len(mine))
        dist.all_gather(list(rows), mine)
        return cast(list[list[float]], rows.tolist())

    def rank0_decides(self, decide: Callable[[], T]) -> T:
        """Run `decide` on rank 0 alone; every rank gets its result, or its error.

        It may take longer than the collectives' timeout (a slow evaluation): the others wait as long as rank 0
        lives, which its heartbeat tells them. Raises PeerLost on the others where it does not.
        """
        if self._store is None or self._lost is None:
            return decide()
        self._decisions[0] += 1
        answer: list[Answer | None] = [None]
        key = f"decision/{self._decisions[0]}"
        if self.rank == 0:
            with heartbeat(self._store, key):
                answer = [answer_of(decide)]
            self._store.set(key, "")
        else:
            self._lost.await_rank0(key)
        dist.broadcast_object_list(answer, src=0)
        return cast(T, results_of(answer)[0])

    def each_node_decides(self, decide: Callable[[], T]) -> list[T]:
        """Run `decide` on the first rank of every node; each rank gets all results, or the first UserError.

        It may take longer than the collectives' timeout (a download).
        """
        return self._decide_beside(self.local_rank == 0, decide)

    def each_rank_decides(self, decide: Callable[[], T]) -> list[T]:
        """Run `decide` on every rank; each rank gets all results in rank order, or the first error.

        One may take longer than another by more than the collectives' timeout.
        """
        return self._decide_beside(True, decide)

    def _decide_beside(self, decides: bool, decide: Callable[[], T]) -> list[T]:
        """Decide in a thread, while the ranks meet again and again."""
        if self.size == 1:
            return [decide()]
        with ThreadPoolExecutor(1) as executor:
            future = executor.submit(answer_of, decide) if decides else None
            while True:
                wait([future] if future else [], POLL_SECONDS)
                answers = self.all_gather((future is not None, future.result() if future and future.done() else None))
                if all(answer for decides, answer in answers if decides):
                    return cast(list[T], results_of([answer for _, answer in answers]))

    def first_cause(self, cause: str) -> str:
        """The cause that the first rank recorded when it lost another one; `cause` if this rank is the first."""
        return self._lost.first_cause(cause) if self._lost else cause

    @contextmanager
    def naming_lost_peers(self) -> Iterator[None]:
        """Turn the backend's error about a rank that is gone into PeerLost, with the first cause."""
        if self._lost is None:
            yield
            return
        with self._lost.named():
            yield

    def let_others_read_cause(self) -> None:
        """Rank 0, before it leaves because of a lost rank: wait until the others have read the first cause."""
        if self._lost is not None:
            self._lost.let_others_read_cause()


@contextmanager
def join(settings: Train) -> Iterator[World]:
    """Meet the other ranks, and part from them once. Raises UserError for an impossible environment."""
    torch.set_num_threads(settings.threads)
    ranks = environment.ranks()
    if ranks.size == 1:
        device, note = choose(settings.device, 0, [_here(settings.device)])
        yield World(device=device, note=note)
        return
    _allow_sockets(ranks.size)
    timeout = timedelta(seconds=min(settings.timeout_seconds, LONGEST_SECONDS))
    known = ranks.by_torchrun and ranks.size == ranks.local_size
    peers = [_here(settings.device)] * ranks.size
    chosen = choose(settings.device, ranks.rank, peers) if known else None  # before the others are waited for
    store = open_store(ranks, timeout)
    if not known:
        peers = _asked(settings.device, ranks, store)
    local_rank, local_size = place(ranks, peers)
    device, note = chosen or choose(settings.device, ranks.rank, peers)
    backend = "nccl" if device.type == "cuda" else "gloo"
    interfaces.use(ranks.rank, [peer.address for peer in peers], local_size == ranks.size, backend == "nccl")
    with _unwrapped(settings.sync) as unwrapped:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if backend == "nccl" else "gloo",
            store=store,
            rank=ranks.rank,
            world_size=ranks.size,
            timeout=timeout,
            device_id=device if backend == "nccl" else None,
        )
    processes: list[Process] = []
    world = World(
        ranks.rank,
        local_rank,
        ranks.size,
        local_size,
        device,
        backend,
        "; ".join(filter(None, [ranks.note, note, unwrapped])),
        settings.timeout_seconds,
        processes,
        store,
        LostRanks(ranks.rank, processes, store, settings.timeout_seconds),
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


@contextmanager
def _unwrapped(sync: str) -> Iterator[str]:
    """Make a group that DistributedDataParallel takes: below the one of debug level DETAIL it ends with SIGSEGV.

    Yields what to say of it.
    """
    level = get_debug_level()
    if level != DebugLevel.DETAIL or sync != "ddp":
        yield ""
        return
    set_debug_level(DebugLevel.INFO)
    try:
        yield "TORCH_DISTRIBUTED_DEBUG=DETAIL without its checks of collectives, with which torch's DDP crashes"
    finally:
        set_debug_level(level)


def hosts(world: World) -> list[str]:
    """The host name of every rank, in rank order."""
    return world.all_gather(socket.gethostname())


def backends() -> dict[str, str]:
    """The backends that this torch was built with, and the version of those that have one of their own."""
    versions = {"gloo": ""} if dist.is_gloo_available() else {}
    if dist.is_nccl_available():
        versions["nccl"] = ".".join(str(part) for part in torch.cuda.nccl.version())  # type: ignore[no-untyped-call]
    return versions


def _allow_sockets(size: int) -> None:
    """Raise this process's limit of open files where it may: gloo connects each rank with each other one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = OPEN_FILES + 2 * size
    if soft != resource.RLIM_INFINITY and soft < need:
        allowed = need if hard == resource.RLIM_INFINITY else min(hard, need)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _here(wanted: str) -> Peer:
    """This host, where it is known that all ranks are on it."""
    return Peer(socket.gethostname(), "", "", visible_gpus(wanted, named=False))


def _asked(wanted: str, ranks: Ranks, store: Store) -> list[Peer]:
    """Where every rank is."""
    first = meeting_address(ranks)
    address = interfaces.towards(first)
    mine = Peer(
        socket.gethostname(),
        identity(address, ranks.by_torchrun),
        address,
        visible_gpus(wanted, named=not ranks.by_torchrun),
    )
    return exchanged(mine, ranks, store)
