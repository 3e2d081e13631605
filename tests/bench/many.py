"""`python -m tests.bench.many`: what the ranks of a large job ask the stores while they meet, simulated on one machine.

The job's own code in threads, which greet, say where they are and part: first with stores in memory, to count; then
with torch's own stores, to time it. torch looks up the name of each that connects, in the store's one thread:
`unshare -rn` in front of `sh -c "ip link set lo up; python -m tests.bench.many"` leaves the name server out.
"""

import argparse
import os
import time
from collections import Counter
from typing import Any

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from src.environment import OF_A_JOB
from src.world import rendezvous
from src.world.world import _allow_sockets
from tests.bench.page import table
from tests.helpers.stores import CountedWait, greet, in_memory


def main() -> None:
    """Print a table for each kind of store."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ranks", type=int, nargs="+", default=[64, 256, 1024])
    chosen = parser.parse_args()
    for name in OF_A_JOB:
        os.environ.pop(name, None)
    real: dict[str, Any] = {"TCPStore": TCPStore, "PrefixStore": PrefixStore, "Wait": CountedWait}
    head = ["stores", "ranks", "s", "requests of rank 0", "of another", "MB that the stores send"]
    rows = []
    for ranks in chosen.ranks:
        _allow_sockets(2 * ranks)
        rows.append(["in memory", *simulated(ranks, in_memory())])
        rows.append(["torch's", *simulated(ranks, real)])
    print(table(head, rows))


def simulated(size: int, kinds: dict[str, Any]) -> list[str]:
    """A line of the table: ranks below torchrun."""
    agent = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(agent.port)}
    before = {name: getattr(rendezvous, name) for name in kinds}
    rendezvous.__dict__.update(kinds)
    began = time.perf_counter()
    try:
        counts = greet(range(size), size)
    finally:
        rendezvous.__dict__.update(before)
    seconds, total = time.perf_counter() - began, sum(counts.values(), Counter())
    others = (total["requests"] - counts[0]["requests"]) / (size - 1)
    counted = [f"{counts[0]['requests']:,}", f"{others:,.0f}", f"{total['bytes'] / 1e6:,.1f}"]
    return [f"{size:,}", f"{seconds:.1f}", *(counted if total["requests"] else [""] * 3)]


if __name__ == "__main__":
    main()
