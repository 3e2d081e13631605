"""The store through which the ranks of one attempt find each other.

torchrun's agent offers its own store to the workers, and keeps it over `--max-restarts`: restarted workers
read the addresses of the dead generation and fail (pytorch#135712, #167288). So rank 0 opens a fresh store
for every attempt, and only the invitation to it goes through the agent's. Every process writes a
random number and accepts only an invitation that repeats it, which a dead generation's cannot.

Without torchrun (srun, mpirun, RANK and WORLD_SIZE set by hand) rank 0 opens its store at MASTER_ADDR and MASTER_PORT,
or where Slurm's variables say, and the ranks write their numbers there.
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
from src.world import interfaces

PAUSE_SECONDS = 0.02  # between two polls for the others
CONNECT_SECONDS = 5.0  # longest for one attempt to connect
AGENT_SECONDS = 10.0  # the agent's store was there before this process: if it is gone, so is torchrun
QUIET_SECONDS = 10.0  # a wait that is longer is reported
MISSED_SECONDS = 30.0  # for the rank 0 of an earlier attempt to end, before another process has this one's rank


def open_store(ranks: Ranks, timeout: timedelta) -> Store:
    """A store that only the ranks of this attempt share.

    Raises UserError if the address or port of the environment cannot be used, JobFailed if the others do not come
    within `timeout`.
    """
    if ranks.port or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        address, port = _meeting_point(ranks)
        wait = Wait(timeout)
        return _receive(ranks, port, wait) if ranks.rank == 0 else _visit(ranks, address, port, wait)
    address, port = _master()
    patience = min(timeout, timedelta(seconds=AGENT_SECONDS))
    try:
        store = TCPStore(address, port, is_master=False, timeout=patience, wait_for_workers=False)
    except RuntimeError:
        advice = "" if _is_below_torchrun() else f", or RANK and the others are an earlier job's; {FIX}"
        raise JobFailed(f"torchrun's store at {address}:{port} does not answer: torchrun is gone{advice}") from None
    store.set_timeout(timeout)
    agent = PrefixStore(f"meeting/{os.environ.get('TORCHELASTIC_RUN_ID', '')}", store)
    if ranks.rank == 0:
        return _invite(agent, _own_address(address, ranks.size == ranks.local_size), ranks.size, timeout)
    return _follow(agent, ranks.rank, timeout)


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
    """A wait for other ranks, which is reported once if it is long."""

    def __init__(self, timeout: timedelta) -> None:
        self.timeout, self._began, self._reported = timeout, time.monotonic(), False

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    @property
    def is_over(self) -> bool:
        """Whether the timeout has passed."""
        return self.seconds > self.timeout.total_seconds()

    def pause(self, what: str) -> None:
        """Sleep a little; say what is waited for if that has taken long."""
        if not self._reported and self.seconds > QUIET_SECONDS:
            self._reported = True
            print(f"waiting for {what}, for at most {self.timeout.total_seconds():.0f} s", file=sys.stderr, flush=True)
        time.sleep(PAUSE_SECONDS if self.seconds < 1 else 5 * PAUSE_SECONDS)


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
    greetings = [f"hello/{rank}" for rank in range(1, ranks.size)]
    while not store.check(greetings):
        missing = [rank for rank in range(1, ranks.size) if wait.seconds > 1 and not store.check([f"hello/{rank}"])]
        if wait.is_over:
            raise JobFailed(_not_there(missing, ranks, wait))
        wait.pause(f"{_listed(missing)} of {ranks.size} on port {port} ({ranks.values})")
    numbers = [f"{ranks.size}/-", *(value.decode() for value in store.multi_get(greetings))]
    store.set("met", " ".join(numbers))
    store.wait([f"seen/{rank}" for rank in range(1, ranks.size)])  # the store ends with this process
    _check_sizes(numbers, ranks)
    return PrefixStore("job", store)


def _visit(ranks: Ranks, address: str, port: int, wait: Wait) -> Store:
    """Another rank without torchrun: write a number into rank 0's store, until rank 0 repeats it.

    A store that repeats others is that of an earlier attempt, which is about to end, or has another rank with this
    number.
    """
    number = f"{ranks.size}/{secrets.token_hex(8)}"
    missed: float | None = None
    while not wait.is_over:
        store, reason = _connect(address, port, wait.timeout)
        if store is None:
            wait.pause(f"rank 0 at {address}:{port}: {reason} ({ranks.values})")
            continue
        numbers = _greet(store, ranks.rank, number, wait)
        if number in numbers:
            store.set(f"seen/{ranks.rank}", "")
            _check_sizes(numbers, ranks)
            return PrefixStore("job", store)
        missed = missed or time.monotonic()
        if numbers and time.monotonic() - missed > MISSED_SECONDS:
            raise UserError(
                f"{ranks.values}: the ranks at {address}:{port} met without this process", fix="give each its own rank"
            )
        wait.pause(f"the ranks at {address}:{port}, which met without this one ({ranks.values})")
    raise JobFailed(f"{_not_there([0], ranks, wait)}: nothing at {address}:{port} answers as its store")


def _connect(address: str, port: int, timeout: timedelta) -> tuple[TCPStore | None, str]:
    """Rank 0's store, or why it is not there. Asks the port first: the store's own client prints a C++ stack."""
    try:
        socket.create_connection((address, port), timeout=CONNECT_SECONDS).close()
    except (OSError, UnicodeError) as error:
        return None, getattr(error, "strerror", None) or str(error) or type(error).__name__
    try:
        patience = min(timeout, timedelta(seconds=2 * CONNECT_SECONDS))
        store = TCPStore(address, port, is_master=False, timeout=patience, wait_for_workers=False)
    except RuntimeError:
        return None, "no store"
    store.set_timeout(timeout)
    return store, ""


def _greet(store: TCPStore, rank: int, number: str, wait: Wait) -> list[str]:
    """The numbers of all ranks that have met in the store; [] if it closed, or the wait is over."""
    try:
        if not store.check(["met"]):
            store.set(f"hello/{rank}", number)
        while not store.check(["met"]) and not wait.is_over:
            wait.pause("the other ranks")
        return store.get("met").decode().split() if store.check(["met"]) else []
    except RuntimeError:
        return []


def _check_sizes(numbers: list[str], ranks: Ranks) -> None:
    """Raises UserError if the ranks have different world sizes."""
    for rank, number in enumerate(numbers):
        if number.partition("/")[0] != str(ranks.size):
            raise UserError(
                f"rank {rank} has WORLD_SIZE={number.partition('/')[0]}, rank {ranks.rank} {ranks.size}",
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
    """Rank 0: open the store, and invite the ranks that have written a number until all are there."""
    store = TCPStore(interfaces.loopback(), 0, is_master=True, timeout=timeout, wait_for_workers=False)
    others, numbers, wait = range(1, world_size), [""] * world_size, Wait(timeout)
    while missing := [rank for rank in others if not store.check([f"here/{rank}"])]:
        if wait.is_over:
            raise JobFailed(f"{_listed(missing)} of {world_size} did not come within {timeout.total_seconds():.0f} s")
        greetings = [_value(agent, f"hello/{rank}") for rank in range(world_size)]
        if greetings != numbers:
            numbers = greetings
            agent.set("invitation", " ".join([address, str(store.port), *(number or "-" for number in numbers)]))
        wait.pause(f"{_listed(missing)} of {world_size}")
    return PrefixStore("job", store)


def _follow(agent: Store, rank: int, timeout: timedelta) -> Store:
    """Another rank: write a number, and connect where the invitation that repeats it points."""
    number, wait = secrets.token_hex(8), Wait(timeout)
    agent.set(f"hello/{rank}", number)
    while not wait.is_over:
        address, port, *numbers = (_value(agent, "invitation") or "- 0").split()
        if numbers[rank : rank + 1] == [number]:
            store = TCPStore(address, int(port), None, False, timeout, wait_for_workers=False)
            store.set(f"here/{rank}", "")
            return PrefixStore("job", store)
        time.sleep(PAUSE_SECONDS)
    raise JobFailed(f"rank {rank} got no invitation from rank 0 within {timeout.total_seconds():.0f} s")


def _value(store: Store, key: str) -> str:
    """What the store holds under the key, '' if nothing: asking does not wait."""
    return store.get(key).decode() if store.check([key]) else ""
