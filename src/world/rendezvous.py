"""The store through which the ranks of one attempt find each other.

torchrun's agent offers its own store to the workers, and keeps it over `--max-restarts`: restarted workers
read the addresses of the dead generation and fail (pytorch#135712, #167288). So rank 0 opens a fresh store
for every attempt, and only the invitation to it goes through the agent's. Every process writes a
random number and accepts only an invitation that repeats it, which a dead generation's cannot.
"""

import os
import secrets
import socket
import time
from datetime import timedelta
from typing import Any

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # noqa: TID251
from torch.distributed import Store as Store  # type: ignore[attr-defined]  # noqa: TID251

from src.errors import JobFailed, UserError

PAUSE_SECONDS = 0.02  # between two polls for the others
AGENT_SECONDS = 10.0  # the agent's store was there before this process: if it is gone, so is torchrun


def open_store(rank: int, world_size: int, one_host: bool, timeout: timedelta) -> Store:
    """A store that only the ranks of this attempt share.

    Raises UserError if the address or port of the environment cannot be used, TimeoutError if the others
    do not come within `timeout`.
    """
    host, port = _master()
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return _plain_store(host, port, rank, world_size, timeout)
    patience = min(timeout, timedelta(seconds=AGENT_SECONDS))
    try:
        store = TCPStore(host, port, is_master=False, timeout=patience, wait_for_workers=False)
    except RuntimeError:
        raise JobFailed(f"torchrun's store at {host}:{port} does not answer: torchrun is gone") from None
    store.set_timeout(timeout)
    agent = PrefixStore(f"meeting/{os.environ.get('TORCHELASTIC_RUN_ID', '')}", store)
    if rank == 0:
        return _invite(agent, _own_address(host, one_host), world_size, timeout)
    return _follow(agent, rank, timeout)


def is_open(store: Store) -> bool:
    """Whether rank 0 still holds the store open; asking the store itself would print torch's own warnings."""
    server: Any = store.underlying_store if isinstance(store, PrefixStore) else store
    try:
        socket.create_connection((server.host, server.port), timeout=5).close()
    except OSError:
        return False
    return True


def _master() -> tuple[str, int]:
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(
            f"MASTER_ADDR={host} MASTER_PORT={port}: a world of several ranks needs both", fix="start it with torchrun"
        )
    return host, int(port)


def _plain_store(host: str, port: int, rank: int, world_size: int, timeout: timedelta) -> Store:
    try:
        return TCPStore(host, port, world_size, rank == 0, timeout)
    except RuntimeError as error:
        reason = "is in use: choose another" if "EADDRINUSE" in str(error) else "does not answer"
        raise UserError(
            f"MASTER_PORT={port}: the port on {host} {reason} ({str(error).partition('. ')[0][:120]})"
        ) from None


def _own_address(master: str, one_host: bool) -> str:
    """An address of this host that the other ranks can reach."""
    if one_host:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((socket.gethostbyname(master), 9))  # sends nothing: only asks for the route
        address = str(probe.getsockname()[0])
    return master if address.startswith("127.") else address


def _invite(agent: Store, address: str, world_size: int, timeout: timedelta) -> Store:
    """Rank 0: open the store, and invite the ranks that have written a number until all are there."""
    store = TCPStore("0.0.0.0", 0, is_master=True, timeout=timeout, wait_for_workers=False)
    others, numbers = range(1, world_size), [""] * world_size
    deadline = time.monotonic() + timeout.total_seconds()
    while missing := [rank for rank in others if not store.check([f"here/{rank}"])]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"rank(s) {missing} did not come within {timeout.total_seconds():.0f} s")
        greetings = [_value(agent, f"hello/{rank}") for rank in range(world_size)]
        if greetings != numbers:
            numbers = greetings
            agent.set("invitation", " ".join([address, str(store.port), *(number or "-" for number in numbers)]))
        time.sleep(PAUSE_SECONDS)
    return PrefixStore("job", store)


def _follow(agent: Store, rank: int, timeout: timedelta) -> Store:
    """Another rank: write a number, and connect where the invitation that repeats it points."""
    number = secrets.token_hex(8)
    agent.set(f"hello/{rank}", number)
    deadline = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < deadline:
        address, port, *numbers = (_value(agent, "invitation") or "- 0").split()
        if numbers[rank : rank + 1] == [number]:
            store = TCPStore(address, int(port), None, False, timeout, wait_for_workers=False)
            store.set(f"here/{rank}", "")
            return PrefixStore("job", store)
        time.sleep(PAUSE_SECONDS)
    raise TimeoutError(f"rank {rank} got no invitation from rank 0 within {timeout.total_seconds():.0f} s")


def _value(store: Store, key: str) -> str:
    """What the store holds under the key, '' if nothing: asking does not wait."""
    return store.get(key).decode() if store.check([key]) else ""
