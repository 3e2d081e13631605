"""`make scale`: 1, 2, 4 and 8 ranks, plain and bitwise: speed, share of time waiting, one hash; and wider models.

With `--model NAME` another model: 1, 2, 3, 5 and 8 ranks, bitwise, with everything that could make them differ.
"""

import argparse
import statistics
from typing import Any

from src.drill.workloads import WORKLOADS
from tests.bench import wider
from tests.bench.compare import Entry, job, take_turn
from tests.bench.page import conditions, counted, table, write

RANKS = (1, 2, 4, 8)
CHANGING = ("samples_per_second", "waiting_seconds", "world_size")  # of status.json


HEAD = ["train.sync and ranks", "samples/s", "time waiting", "correct", "SHA-256 of the weights"]


def main() -> None:
    """Measure in turns and write docs/ranks.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="data", help="torchvision's data folder, with MNIST in it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="logistic", choices=list(WORKLOADS))
    chosen = parser.parse_args()
    if chosen.model != "logistic":
        raise SystemExit(compare(chosen.root, chosen.model))
    entries = [job(ranks, chosen.root, 1, *how) for how in ((), ("train.sync=bitwise",)) for ranks in RANKS]
    facts: dict[int, list[dict[str, Any]]] = {}
    for _ in range(chosen.rounds):
        for number, entry in enumerate(entries):
            facts.setdefault(number, []).append(take_turn(entry))
    rows = [row(entry, facts[number]) for number, entry in enumerate(entries)]
    hashes = {str(facts[number][0]["weights_sha256"]) for number in range(len(RANKS), 2 * len(RANKS))}
    found = f"bitwise: {counted(len(hashes), 'hash', 'es')} on {', '.join(map(str, RANKS))} ranks"
    write("scale", conditions(f"1 epoch, medians of {chosen.rounds} turns; {found}") + table(HEAD, rows))
    wider.measure(chosen.root, chosen.rounds)


def compare(root: str, model: str) -> int:
    """Train another model on each number of ranks, print what came out; 1 if it differs."""
    rows, facts = [], []
    for ranks in (1, 2, 3, 5, 8):
        found = take_turn(job(ranks, root, 3, *WORKLOADS[model].settings))
        facts.append({name: value for name, value in found.items() if name not in CHANGING})
        metrics = "same" if facts[-1] == facts[0] else "DIFFERENT"
        hashes = [f"`{found[name][:16]}`" for name in ("weights_sha256", "average_sha256")]
        rows.append([str(ranks), f"{found['samples_per_second']:,.0f}", *hashes, metrics])
    print(table(["ranks", "samples/s", "weights and buffers", "their averages", "everything else"], rows))
    return int(any(one != facts[0] for one in facts))


def row(entry: Entry, found: list[dict[str, Any]]) -> list[str]:
    """A line of the table."""
    rate = statistics.median(one["samples_per_second"] for one in found)
    share = statistics.median(one["waiting_seconds"] * one["samples_per_second"] / 60_000 for one in found)
    how = "bitwise" if "train.sync=bitwise" in entry.command else "ddp"
    first = found[0]
    return [
        f"{how} on {entry.ranks}",
        f"{rate:,.0f}",
        f"{share:.0%}",
        f"{first['correct']}",
        f"`{first['weights_sha256'][:32]}`",
    ]


if __name__ == "__main__":
    main()
