"""The store through which the ranks of one attempt find each other.

torchrun's agent offers its own store to the workers, and keeps it over `--max-restarts`: restarted workers
read the addresses of the dead generation and fail (pytorch#135712, #167288). So rank 0 opens a fresh store
for every attempt and only its address goes through the agent's. A rank believes an address when the store
behind it answers the rank's own random number; a dead or leftover one cannot.
"""

import os
import secrets
import socket
import time
from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # noqa: TID251

from src.config import UserError

CONNECT_SECONDS = 3.0
PAUSE_SECONDS = 0.02  # between two looks for rank 0's answer


def open_store(rank: int, world_size: int, one_host: bool, timeout: timedelta) -> Store:
    """A store that only the ranks of this attempt share.

    Raises UserError if the address or port of the environment cannot be used, TimeoutError if the others
    do not come within `timeout`.
    """
    host, port = _master()
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return _plain_store(host, port, rank, world_size, timeout)
    agent = TCPStore(host, port, is_master=False, timeout=timeout, wait_for_workers=False)
    address_key = f"address/{os.environ.get('TORCHELASTIC_RUN_ID', '')}"
    if rank == 0:
        return _invite(agent, address_key, _own_address(host, one_host), world_size, timeout)
    return _follow(agent, address_key, rank, timeout)


def _master() -> tuple[str, int]:
    host, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(
            f"MASTER_ADDR={host} MASTER_PORT={port}: a world of several ranks needs both; start it with torchrun"
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


def _invite(agent: Store, key: str, address: str, world_size: int, timeout: timedelta) -> Store:
    """Rank 0: open the store, say where it is, answer every rank's number."""
    store = TCPStore("0.0.0.0", 0, is_master=True, timeout=timeout, wait_for_workers=False)
    agent.set(key, f"{address} {store.port}")
    for rank in range(1, world_size):
        store.set(f"answer/{rank}", store.get(f"hello/{rank}").decode())
    return PrefixStore("job", store)


def _follow(agent: Store, key: str, rank: int, timeout: timedelta) -> Store:
    """Another rank: greet the store that rank 0 named, until one answers with this rank's number."""
    number, place, store = secrets.token_hex(8), b"", None
    deadline = time.monotonic() + timeout.total_seconds()
    while time.monotonic() < deadline:
        if store is None or agent.get(key) != place:
            place = agent.get(key)
            store = _greet(place.decode(), rank, number, timeout)
        if store is not None and _answered(store, rank, number):
            return PrefixStore("job", store)
        time.sleep(PAUSE_SECONDS)
    raise TimeoutError(f"rank {rank} found no rank 0 within {timeout.total_seconds():.0f} s")


def _greet(place: str, rank: int, number: str, timeout: timedelta) -> Store | None:
    """The store at "address port" with this rank's greeting in it; None if nobody listens there."""
    address, _, port = place.partition(" ")
    try:
        # A refused connection is normal here, and TCPStore would print a page about it.
        socket.create_connection((address, int(port)), CONNECT_SECONDS).close()
        store = TCPStore(address, int(port), None, False, timeout, wait_for_workers=False)
        store.set(f"hello/{rank}", number)
    except (OSError, RuntimeError):
        return None
    return store


def _answered(store: Store, rank: int, number: str) -> bool:
    # Asks whether the key is there, for waiting for one that does not come prints a page as well.
    try:
        return bool(store.check([f"answer/{rank}"])) and store.get(f"answer/{rank}").decode() == number
    except RuntimeError:
        return False
