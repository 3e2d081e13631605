"""Ranks that only greet: threads of this process that meet in stores, real or in memory, with each request counted."""

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from src.environment import Ranks
from src.world import rendezvous
from src.world.hosts import Peer, exchanged

LONGEST = timedelta(seconds=120)
here = threading.local()  # .counts is that of the rank whose thread this is
contents: dict[int, dict[str, bytes]] = defaultdict(dict)  # of the store at each port
changed = threading.Condition()


class Memory:
    """What TCPStore does, as far as ranks meet through it, without sockets; torch's looks up a name for each."""

    def __init__(self, _address: str, port: int, *_more: Any, is_master: bool = False, **_named: Any) -> None:
        self.port, self.host, self.prefix = port or 1, _address, ""
        self._values = contents[self.port]

    def _ask(self, answer: bytes = b"") -> bytes:
        here.counts["requests"] += 1
        here.counts["bytes"] += len(answer)
        return answer

    def _wait(self, keys: Sequence[str]) -> list[bytes]:
        with changed:
            assert changed.wait_for(lambda: all(key in self._values for key in keys), LONGEST.total_seconds()), keys
            return [self._values[key] for key in keys]

    def get(self, key: str) -> bytes:
        """See TCPStore."""
        return self._ask(self._wait([self.prefix + key])[0])

    def multi_get(self, keys: Sequence[str]) -> list[bytes]:
        """See TCPStore."""
        answers = self._wait([self.prefix + key for key in keys])
        self._ask(b"".join(answers))
        return answers

    def wait(self, keys: Sequence[str]) -> None:
        """See TCPStore."""
        self._ask()
        self._wait([self.prefix + key for key in keys])

    def check(self, keys: Sequence[str]) -> bool:
        """See TCPStore."""
        self._ask()
        return all(self.prefix + key in self._values for key in keys)

    def append(self, key: str, value: str) -> None:
        """See TCPStore."""
        with changed:
            self.set(key, self._values.get(self.prefix + key, b"").decode() + value)

    def set(self, key: str, value: str) -> None:
        """See TCPStore."""
        self.multi_set([key], [value])

    def multi_set(self, keys: Sequence[str], values: Sequence[str]) -> None:
        """See TCPStore."""
        self._ask()
        with changed:
            self._values.update({self.prefix + key: value.encode() for key, value in zip(keys, values, strict=True)})
            changed.notify_all()

    def set_timeout(self, _timeout: timedelta) -> None:
        """See TCPStore."""


def prefixed(prefix: str, store: Memory) -> Memory:
    """What PrefixStore does."""
    other = Memory(store.host, store.port)
    other.prefix = f"{store.prefix}{prefix}/"
    return other


class CountedWait(rendezvous.Wait):
    """Counts the looks too: how many there are is a question of time."""

    def pause(self, what: str) -> None:
        """See Wait.pause."""
        here.counts["looks"] += 1
        super().pause(what)


def in_memory() -> dict[str, Any]:
    """What to set in rendezvous, so that `greet` counts and needs no sockets."""
    contents.clear()
    connected = {"_connect": lambda address, port, *_: (Memory(address, port), "")}
    return {"TCPStore": Memory, "PrefixStore": prefixed, "Wait": CountedWait, **connected}


def greet(ranks: Iterable[int], size: int, port: int = 0, per_host: int = 8) -> dict[int, Counter[str]]:
    """Let ranks meet and say where they are, one thread each: what each has asked for.

    They meet on `port` of this host as srun's tasks do; or, 0, below torchrun, whose store the environment names.
    """
    ranks = list(ranks)

    def one(rank: int) -> Counter[str]:
        here.counts = counts = Counter[str]()
        who = Ranks(rank, size, None, size, not port, "", ("127.0.0.1",) if port else (), port)
        store = rendezvous.open_store(who, LONGEST)
        host = f"host-{rank // per_host:05}"
        peers = exchanged(Peer(host, f"{host} {'0' * 36} {'1' * 16}", "10.0.0.1"), who, store)
        assert [peer.name for peer in peers] == [f"host-{each // per_host:05}" for each in range(size)]
        return counts

    with ThreadPoolExecutor(len(ranks)) as threads:
        return dict(zip(ranks, threads.map(one, ranks), strict=True))
