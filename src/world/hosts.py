"""Which ranks share a host: each says where it is, and nobody trusts numbers that were set by hand."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from src.environment import Ranks
from src.errors import PeerLost, UserError
from src.world.processes import machine
from src.world.rendezvous import Store


@dataclass(frozen=True)
class Peer:
    """A rank's host: its name, what tells it from others, its address towards rank 0; the GPUs that the rank sees."""

    name: str
    identity: str
    address: str
    gpus: tuple[str, ...] = ()


def identity(address: str, by_torchrun: bool) -> str:
    """What two ranks have in common if, and only if, they share a machine and its loopback interface.

    Hosts may have the same name (localhost, a cloned image): so the machine's boot and the rank's own address count
    too. torchrun knows better, and numbers its hosts.
    """
    if by_torchrun and "GROUP_RANK" in os.environ:
        return f"torchrun {os.environ['GROUP_RANK']}"
    try:
        network = os.readlink("/proc/self/ns/net")
    except OSError:
        network = ""
    return " ".join([machine(), network, address])


def exchanged(mine: Peer, ranks: Ranks, store: Store) -> list[Peer]:
    """Every rank's host, in rank order, on every rank. Raises PeerLost."""
    try:
        store.set(f"host/{ranks.rank}", json.dumps(asdict(mine)))
        if ranks.rank == 0:
            store.set("hosts", _together(store.multi_get([f"host/{rank}" for rank in range(ranks.size)])))
        answer = store.get("hosts")
        store.set(f"host/seen/{ranks.rank}", "")
        if ranks.rank == 0:  # the store ends with this process, which may find a mistake in the answers
            store.wait([f"host/seen/{rank}" for rank in range(ranks.size)])
    except RuntimeError as error:
        raise PeerLost(f"a rank was lost while the ranks met: {str(error).partition('. ')[0][:120]}") from None
    different, numbers = json.loads(answer)
    peers = [Peer(**(peer | {"gpus": tuple(peer["gpus"])})) for peer in map(json.loads, different)]
    return [peers[number] for number in numbers]


def _together(answers: Sequence[bytes]) -> str:
    """What the ranks said, once for all of a host, and which of it is each rank's: every rank reads it."""
    numbers: dict[str, int] = {}
    of = [numbers.setdefault(answer.decode(), len(numbers)) for answer in answers]
    return json.dumps([list(numbers), of])


def place(ranks: Ranks, peers: Sequence[Peer]) -> tuple[int, int]:
    """(local rank, local size): this rank's number among those of its host, and how many these are.

    Raises UserError if LOCAL_WORLD_SIZE says of more ranks that they share a host than do.
    """
    here = [rank for rank, peer in enumerate(peers) if peer.identity == peers[ranks.rank].identity]
    if ranks.by_torchrun and ranks.local_rank is not None and ranks.local_size is not None:
        return ranks.local_rank, ranks.local_size
    if ranks.local_size is not None and ranks.local_size > len(here):
        names = sorted({peer.name for peer in peers})
        listed = ", ".join(names[:8]) + ", ..." * (len(names) > 8)
        raise UserError(
            f"LOCAL_WORLD_SIZE={ranks.local_size}: of {ranks.size} ranks, {len(here)} are on this host ({listed})",
            fix="unset LOCAL_RANK and LOCAL_WORLD_SIZE: the ranks find out",
        )
    return here.index(ranks.rank), len(here)
