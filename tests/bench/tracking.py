"""What tracking costs: the job without it, offline, and online against a server on loopback, in turns."""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from src import schema
from src.tracking.wandb_uploader import WandbUploader
from tests.bench import compare, profile
from tests.bench.compare import Entry, take_turn
from tests.bench.page import conditions, table, write
from tests.helpers.wandb_server import WandbServer, core_of

WAYS = ("disabled", "offline", "online")
LINES = 5000
EPOCHS = {1: 30, 4: 8}  # by ranks: some seconds each


def main() -> None:
    """Measure in turns and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="data", help="torchvision's data folder, with MNIST in it")
    parser.add_argument("--rounds", type=int, default=9, help="0 = the processor's time alone, in half a minute")
    chosen = parser.parse_args()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    turns = f"log.every=100, {EPOCHS} epochs by ranks, medians of {chosen.rounds} turns" if chosen.rounds else "1 rank"
    text = conditions(turns) + processor_time(chosen.root)
    if chosen.rounds:
        head = ["ranks", "track.wandb", "samples/s", "cost in training", "seconds more, start to exit"]
        text += "\n" + table(head, in_turns(chosen.root, chosen.rounds))
    write("tracking", text)


def processor_time(root: str) -> str:
    """What a line of the record costs to track, against what the 100 steps cost that it stands for."""
    torch.set_num_threads(1)
    step = sum(part[0] for part in profile.clocked(root, False).values()) / profile.EPOCHS / profile.STEPS
    with tempfile.TemporaryDirectory() as folder:
        here, core = line_costs(Path(folder))
    return (
        f"Processor time of a line that is tracked offline: {here * 1e6:.0f} us in the job's process, "
        f"{core * 1e6:.0f} us in W&B's own; of the {schema.Log().every} steps that it stands for: "
        f"{schema.Log().every * step * 1e6:,.0f} us on one rank. That is {here / schema.Log().every / step:.2%} and "
        f"{core / schema.Log().every / step:.2%} of the training's.\n"
    )


def line_costs(run: Path) -> tuple[float, float]:
    """Seconds of processor time that a line costs, in this process and in W&B's own."""
    where = {"kind": "train", "epoch": 1, "samples_seen": 64, "loss": 0.5, "lr": 0.01, "samples_per_second": 250_000.5}
    with (run / "metrics.jsonl").open("w") as stream:
        stream.writelines(json.dumps({**where, "step": 100 * number}) + "\n" for number in range(1, LINES + 1))
    copy = WandbUploader(run, schema.Track(wandb="offline"), {}, print)
    tracked = copy._open()
    pid = core_of(os.getpid())
    before, core_before = time.process_time(), core_seconds(pid)
    copy._send_lines(tracked)
    here = time.process_time() - before
    tracked.finish()
    return here / LINES, (core_seconds(pid) - core_before) / LINES


def core_seconds(pid: int) -> float:
    """Processor time of a process so far, as proc(5) has it."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def in_turns(root: str, rounds: int) -> list[list[str]]:
    """The rows of the table: whole jobs."""
    entries = {(ranks, way): entry(ranks, way, root) for ranks in EPOCHS for way in WAYS}
    with WandbServer() as server, tempfile.TemporaryDirectory() as home:
        compare.ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": home, **server.environment}
        for turn in range(rounds):
            for one in entries.values():
                take_turn(one)
                print(f"{turn + 1}/{rounds} {one.name} {one.rates[-1]:,.0f} {one.seconds[-1]:.1f} s", flush=True)
    return [row(entries, ranks, way) for ranks, way in entries]


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
