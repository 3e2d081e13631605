"""What tracking costs: the job without it, offline, and online against a server on loopback, in turns."""

import argparse
import os
import statistics
import tempfile

from tests.bench import compare
from tests.bench.compare import Entry, take_turn
from tests.bench.page import conditions, table, write
from tests.wandb_server import WandbServer

WAYS = ("disabled", "offline", "online")
EPOCHS = {1: 30, 4: 8}  # by ranks: some seconds each


def main() -> None:
    """Measure in turns and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="data", help="torchvision's data folder, with MNIST in it")
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    entries = {(ranks, way): entry(ranks, way, chosen.root) for ranks in EPOCHS for way in WAYS}
    plain = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    with WandbServer() as server, tempfile.TemporaryDirectory() as home:
        compare.ENVIRONMENT = plain | {"OMP_NUM_THREADS": "1", "HOME": home} | server.environment
        for turn in range(chosen.rounds):
            for one in entries.values():
                take_turn(one)
                print(f"{turn + 1}/{chosen.rounds} {one.name} {one.rates[-1]:,.0f} {one.seconds[-1]:.1f} s", flush=True)
    rows = [row(entries, ranks, way) for ranks, way in entries]
    text = conditions(f"log.every=100, {EPOCHS} epochs by ranks, medians of {chosen.rounds} turns")
    head = ["ranks", "track.wandb", "samples/s", "cost in training", "seconds more, start to exit"]
    write("tracking", text + table(head, rows))


def entry(ranks: int, way: str, root: str) -> Entry:
    """The job, tracked so."""
    one = compare.job(ranks, root, EPOCHS[ranks], f"track.wandb={way}")
    return Entry(f"{ranks} ranks, {way}", ranks, one.command)


def row(entries: dict[tuple[int, str], Entry], ranks: int, way: str) -> list[str]:
    """A line of the table: each turn is compared with its neighbour of the same turn."""
    one, base = entries[ranks, way], entries[ranks, "disabled"]
    cost = statistics.median(1 - rate / other for rate, other in zip(one.rates, base.rates, strict=True))
    more = statistics.median(took - other for took, other in zip(one.seconds, base.seconds, strict=True))
    compared = ["", ""] if one is base else [f"{cost:.1%}", f"{more:.1f}"]
    return [str(ranks), way, f"{one.rate:,.0f}", *compared]


if __name__ == "__main__":
    main()
