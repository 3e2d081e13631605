"""torchrun's rendezvous for a job on one host, where there is nobody to wait for.

Its own one waits for up to 0.3 s before the first two attempts, lest many hosts come at once, and keeps a thread that
says that this host is alive.
"""

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # noqa: TID251
from torch.distributed.elastic.rendezvous import (  # noqa: TID251
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)

NAME = "one-host"


def register() -> str:
    """Make it known to torchrun; the name for --rdzv-backend."""
    rendezvous_handler_registry.register(NAME, OneHost)
    return NAME


class OneHost(RendezvousHandler):
    """Every attempt has one host. The store, which the ranks may use too, is open as long as the job lives."""

    def __init__(self, parameters: RendezvousParameters) -> None:
        self._run_id, self._attempts = parameters.run_id, 0
        self._store = TCPStore(str(parameters.local_addr), 0, is_master=True, wait_for_workers=False)

    def get_backend(self) -> str:
        """Its name."""
        return NAME

    @property
    def use_agent_store(self) -> bool:
        """The ranks may meet in this store."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """The next attempt, with a part of the store of its own for torchrun."""
        self._attempts += 1
        address = RendezvousStoreInfo(self._store.host, self._store.port)
        return RendezvousInfo(PrefixStore(f"attempt/{self._attempts}", self._store), 0, 1, address)

    def is_closed(self) -> bool:
        """Never."""
        return False

    def set_closed(self) -> None:
        """There is nobody to tell."""

    def num_nodes_waiting(self) -> int:
        """None."""
        return 0

    def get_run_id(self) -> str:
        """The job's."""
        return self._run_id

    def shutdown(self) -> bool:
        """Nothing to do: the store ends with this process."""
        return True
