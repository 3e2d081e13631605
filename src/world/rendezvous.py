"""The store through which the ranks of one attempt find each other.

torchrun's agent offers its own store to the workers, and keeps it over `--max-restarts`: restarted workers
read the addresses of the dead generation and fail (pytorch#135712, #167288). So rank 0 opens a fresh store
for every attempt, and only the invitation to it goes through the agent's. Every process writes a
random number and accepts only an invitation to that number, which a dead generation's cannot be.

Without torchrun (srun, mpirun, RANK and WORLD_SIZE set by hand) rank 0 opens its store at MASTER_ADDR and MASTER_PORT,
or where Slurm's variables say, and the ranks write their numbers there.

A rank asks a store for keys of its own alone, and the less often the more ranks there are: a thousand that ask fifty
times a second would keep it from answering.
"""

import os
import secrets
import socket
import sys
import time
from datetime import timedelta
from typing import Any

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # noqa: TID251
from torch.distributed import Store as Store  # type: ignore[attr-defined]  # noqa: TID251

from src.environment import FIX, Ranks
from src.errors import JobFailed, UserError
from src.launchers import ancestors
from src.launchers.variables import text, whole
from src.world import interfaces, roll_call

PAUSE_SECONDS = 0.02  # between two polls for the others, at least
STORE_REQUESTS = 10_000  # a second, of all ranks together: a third of what one core of a store answers
CONNECT_SECONDS = 5.0  # longest for one attempt to connect
AGENT_SECONDS = 10.0  # the agent's store was there before this process: if it is gone, so is torchrun
RANK_SECONDS = 0.1  # for a store to let one client in: torch looks up its name first, one client after the other
QUIET_SECONDS = 10.0  # a wait that is longer is reported
MISSED_SECONDS = 30.0  # for the rank 0 of an earlier attempt to end, before another process has this one's rank


def open_store(ranks: Ranks, timeout: timedelta) -> Store:
    """A store that only the ranks of this attempt share.

    Raises UserError if the address or port of the environment cannot be used, JobFailed if the others do not come
    within `timeout`.
    """
    if ranks.port or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        address, port = _meeting_point(ranks)
        if ranks.rank == 0:
            return _receive(ranks, port, Wait(timeout))
        return _visit(ranks, address, port, Wait(timeout, ranks.size))
    address, port = _master()
    patience = min(timeout, timedelta(seconds=AGENT_SECONDS + ranks.size * RANK_SECONDS))
    try:
        store = TCPStore(address, port, is_master=False, timeout=patience, wait_for_workers=False)
    except RuntimeError:
        advice = "" if _is_below_torchrun() else f", or RANK and the others are an earlier job's; {FIX}"
        raise JobFailed(f"torchrun's store at {address}:{port} does not answer: torchrun is gone{advice}") from None
    store.set_timeout(timeout)
    agent = PrefixStore(f"meeting/{os.environ.get('TORCHELASTIC_RUN_ID', '')}", store)
    if ranks.rank == 0:
        return _invite(agent, _own_address(address, ranks.size == ranks.local_size), ranks.size, timeout)
    return _follow(agent, ranks.rank, Wait(timeout, ranks.size))


def meeting_address(ranks: Ranks) -> str:
    """Where rank 0, or torchrun's store beside it, is. Raises UserError as open_store does."""
    return _meeting_point(ranks)[0]


def is_open(store: Store) -> bool:
    """Whether rank 0 still holds the store open; asking the store itself would print torch's own warnings."""
    try:
        socket.create_connection((_server(store).host, store_port(store)), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def store_port(store: Store) -> int:
    """On which rank 0 holds the store open."""
    return int(_server(store).port)


def _server(store: Store) -> Any:
    return store.underlying_store if isinstance(store, PrefixStore) else store


class Wait:
    """A wait for other ranks, which is reported once if it is long; `asking` so many wait, and ask the same store."""

    def __init__(self, timeout: timedelta, asking: int = 1) -> None:
        self.timeout, self._began, self._reported = timeout, time.monotonic(), False
        self._least = asking / STORE_REQUESTS

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    @property
    def is_over(self) -> bool:
        """Whether the timeout has passed."""
        return self.seconds > self.timeout.total_seconds()

    def pause(self, what: str) -> None:
        """Sleep a little; say what is waited for if that has taken long, unless `what` is empty."""
        if what and not self._reported and self.seconds > QUIET_SECONDS:
            self._reported = True
            print(f"waiting for {what}, for at most {self.timeout.total_seconds():.0f} s", file=sys.stderr, flush=True)
        time.sleep(max(self._least, PAUSE_SECONDS if self.seconds < 1 else 5 * PAUSE_SECONDS))


def _is_below_torchrun() -> bool:
    """Whether the parent may be torchrun, which makes itself the variables that it gives to a rank."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or "torch" in " ".join(ancestors.command(os.getppid()))


def _master() -> tuple[str, int]:
    address, given = interfaces.bare(text("MASTER_ADDR")), text("MASTER_PORT")
    port = whole(given) or 0
    if not address or not 0 < port < 65536:
        raise UserError(f"MASTER_ADDR={address} MASTER_PORT={given[:60]}: a world of several ranks needs both", fix=FIX)
    return address, port


def _meeting_point(ranks: Ranks) -> tuple[str, int]:
    """The address and port of rank 0: those of the environment, else those that srun or mpirun imply.

    An address of the loopback interface is not taken where there are several hosts, nor what was set for another job.
    Raises UserError for a MASTER_ADDR that is not rank 0's, where rank 0 can know that.
    """
    if not ranks.port:
        return _master()
    given = "" if ranks.note else text("MASTER_PORT")
    port = whole(given) if given else ranks.port
    if port is None or not 0 < port < 65536:
        raise UserError(f"MASTER_PORT={given[:60]}: not a port", fix="unset MASTER_PORT")
    if len(set(ranks.hosts)) == 1:
        return interfaces.loopback(), port
    address = "" if ranks.note else interfaces.bare(text("MASTER_ADDR"))
    found = interfaces.resolve(address) if address else []
    if ranks.hosts and (not address or (found and all(map(interfaces.is_loopback, found)))):
        return ranks.hosts[0], port
    if ranks.rank == 0 and ranks.hosts and not any(map(interfaces.of, found)):
        raise UserError(
            f"MASTER_ADDR={address}: not an address of {socket.gethostname()}, on which rank 0 is",
            fix="unset MASTER_ADDR: the ranks find each other",
        )
    return address, port


def _receive(ranks: Ranks, port: int, wait: Wait) -> Store:
    """Rank 0 without torchrun: open the store, wait for a number from each rank, and repeat them all."""
    try:
        store = TCPStore(interfaces.loopback(), port, None, True, wait.timeout, wait_for_workers=False)
    except RuntimeError as error:
        reason = "is in use: choose another" if "EADDRINUSE" in str(error) else "cannot be opened"
        host = text("MASTER_ADDR") or socket.gethostname()
        cause = str(error).partition(". ")[0][:120]
        raise UserError(f"MASTER_PORT={port}: the port on {host} {reason} ({cause})") from None
    while missing := roll_call.missing(store, "hello", ranks.size):
        if wait.is_over:
            raise JobFailed(_not_there(missing, ranks, wait))
        wait.pause(f"{_listed(missing)} of {ranks.size} on port {port} ({ranks.values})")
    greetings = roll_call.entered(store, "hello")
    numbers = [f"{ranks.size}/-", *(greetings[rank] for rank in range(1, ranks.size))]
    _tell(store, {f"met/{number}": "" for number in numbers})
    store.set("met", _sizes(numbers))
    store.wait([f"seen/{rank}" for rank in range(1, ranks.size)])  # the store ends with this process
    _check_sizes(_sizes(numbers), ranks)
    return PrefixStore("job", store)


def _tell(store: Store, answers: dict[str, str]) -> None:
    """Write many keys in one request."""
    store.multi_set(list(answers), list(answers.values()))  # type: ignore[attr-defined]


def _visit(ranks: Ranks, address: str, port: int, wait: Wait) -> Store:
    """Another rank without torchrun: write a number into rank 0's store, until rank 0 answers it.

    A store that answers others is that of an earlier attempt, which is about to end, or has another rank with this
    number.
    """
    number = f"{ranks.size}/{secrets.token_hex(8)}"
    missed: float | None = None
    while not wait.is_over:
        store, reason = _connect(address, port, wait.timeout, ranks.size)
        if store is None:
            wait.pause(f"rank 0 at {address}:{port}: {reason} ({ranks.values})")
            continue
        sizes, is_meant = _greet(store, ranks.rank, number, wait)
        if is_meant:
            store.set(f"seen/{ranks.rank}", "")
            _check_sizes(sizes, ranks)
            return PrefixStore("job", store)
        missed = missed or time.monotonic()
        if sizes and time.monotonic() - missed > MISSED_SECONDS:
            raise UserError(
                f"{ranks.values}: the ranks at {address}:{port} met without this process", fix="give each its own rank"
            )
        wait.pause(f"the ranks at {address}:{port}, which met without this one ({ranks.values})")
    raise JobFailed(f"{_not_there([0], ranks, wait)}: nothing at {address}:{port} answers as its store")


def _connect(address: str, port: int, timeout: timedelta, size: int) -> tuple[TCPStore | None, str]:
    """Rank 0's store, or why it is not there. Asks the port first: the store's own client prints a C++ stack."""
    try:
        socket.create_connection((address, port), timeout=CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        return None, getattr(error, "strerror", None) or str(error) or type(error).__name__
    try:
        patience = min(timeout, timedelta(seconds=2 * CONNECT_SECONDS + size * RANK_SECONDS))
        store = TCPStore(address, port, is_master=False, timeout=patience, wait_for_workers=False)
    except RuntimeError:
        return None, "no store"
    store.set_timeout(timeout)
    return store, ""


def _greet(store: TCPStore, rank: int, number: str, wait: Wait) -> tuple[str, bool]:
    """(the world sizes of the ranks that have met in the store, whether this one is among them).

    ("", False) if the store closed, or the wait is over.
    """
    try:
        if not store.check(["met"]):
            roll_call.enter(store, "hello", rank, number)
        while not store.check(["met"]):
            if wait.is_over:
                return "", False
            wait.pause("the other ranks")
        return store.get("met").decode(), store.check([f"met/{number}"])
    except RuntimeError:
        return "", False


def _sizes(numbers: list[str]) -> str:
    """'RANK/SIZE' of the first rank with each world size: short, and enough to name every rank's."""
    first: dict[str, int] = {}
    for rank, number in enumerate(numbers):
        first.setdefault(number.partition("/")[0], rank)
    return " ".join(f"{rank}/{size}" for size, rank in first.items())


def _check_sizes(sizes: str, ranks: Ranks) -> None:
    """Raises UserError if the ranks have different world sizes."""
    for rank, _, size in (each.partition("/") for each in sizes.split()):
        if size != str(ranks.size):
            raise UserError(
                f"rank {rank} has WORLD_SIZE={size}, rank {ranks.rank} {ranks.size}",
                fix="start all ranks with the same",
            )


def _not_there(missing: list[int], ranks: Ranks, wait: Wait) -> str:
    advice = f" ({ranks.values}: if they are an earlier job's, unset them)" if ranks.values else ""
    return f"{_listed(missing)} of {ranks.size} did not come within {wait.timeout.total_seconds():.0f} s{advice}"


def _listed(missing: list[int]) -> str:
    """Their numbers, of many only the first."""
    shown = ", ".join(map(str, missing[:8])) + ", ..." * (len(missing) > 8)
    return f"rank{'s' * (len(missing) != 1)} {shown}" if missing else "the other ranks"


def _own_address(master: str, one_host: bool) -> str:
    """An address of this host that the other ranks can reach."""
    if one_host:
        return interfaces.loopback()
    address = interfaces.towards(master)
    return master if not address or interfaces.is_loopback(address) else address


def _invite(agent: Store, address: str, world_size: int, timeout: timedelta) -> Store:
    """Rank 0: open the store, and invite whoever has written a number, a dead generation too, until all are there."""
    store = TCPStore(interfaces.loopback(), 0, is_master=True, timeout=timeout, wait_for_workers=False)
    invited, wait = set[str](), Wait(timeout)
    while missing := roll_call.missing(store, "here", world_size):
        if wait.is_over:
            raise JobFailed(f"{_listed(missing)} of {world_size} did not come within {timeout.total_seconds():.0f} s")
        if new := set(roll_call.entered(agent, "hello").values()) - invited:
            _tell(agent, {f"invitation/{number}": f"{address} {store.port}" for number in new})
            invited |= new
        wait.pause(f"{_listed(missing)} of {world_size}")
    return PrefixStore("job", store)


def _follow(agent: Store, rank: int, wait: Wait) -> Store:
    """Another rank: write a number, and connect where the invitation to that number points."""
    number = secrets.token_hex(8)
    roll_call.enter(agent, "hello", rank, number)
    while not wait.is_over:
        if agent.check([f"invitation/{number}"]):
            address, port = agent.get(f"invitation/{number}").decode().split()
            store = TCPStore(address, int(port), None, False, wait.timeout, wait_for_workers=False)
            roll_call.enter(store, "here", rank)
            return PrefixStore("job", store)
        wait.pause("")  # rank 0 says who is missing
    raise JobFailed(f"rank {rank} got no invitation from rank 0 within {wait.timeout.total_seconds():.0f} s")
