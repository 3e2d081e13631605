"""The rendezvous of a job on one host: every attempt has a part of one store for itself."""

import os

from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.rendezvous import RendezvousParameters, rendezvous_handler_registry

from launch import one_host


def test_attempts_share_one_store_and_no_keys() -> None:
    parameters = RendezvousParameters(one_host.register(), "127.0.0.1:0", "job", 1, 1, local_addr="127.0.0.1")
    threads = len(os.listdir("/proc/self/task"))
    handler = rendezvous_handler_registry.create_handler(parameters)
    first, second = handler.next_rendezvous(), handler.next_rendezvous()
    assert [(each.rank, each.world_size) for each in (first, second)] == [(0, 1), (0, 1)]
    assert first.bootstrap_store_info == second.bootstrap_store_info
    first.store.set("key", "1")
    assert not second.store.check(["key"])
    place = first.bootstrap_store_info
    assert place is not None
    assert TCPStore(place.master_addr, place.master_port, is_master=False).check(["attempt/1/key"])
    assert handler.use_agent_store
    assert not handler.is_closed()
    assert (handler.num_nodes_waiting(), handler.get_run_id()) == (0, "job")
    assert handler.shutdown()
    assert len(os.listdir("/proc/self/task")) <= threads + 2, "the store's own, and no keep-alive"
