"""`make bench`: this job beside its peers, in turns, each as its own command; medians and ratios into the docs."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.page import conditions, counted, table, write

ROOT = Path(__file__).parent.parent.parent
JOB = "this job"
TORCHRUN = "torch.distributed.run"
CLOSE = 1.05  # a ratio that means nothing on a shared machine
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}  # more threads a rank are slower for everybody
PEERS = {
    "DDP tutorial": "ddp_tutorial",
    "Accelerate": "accelerate_job",
    "Lightning": "lightning_job",
}


@dataclass
class Entry:
    """One contestant: its command, and what each of its turns took."""

    name: str
    ranks: int
    command: list[str]
    rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    correct: int = 0

    @property
    def rate(self) -> float:
        """Samples per second in the training loop, median."""
        return statistics.median(self.rates)

    @property
    def wall(self) -> float:
        """Seconds from command to exit, median."""
        return statistics.median(self.seconds)


def main() -> None:
    """Measure in turns and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="data", help="torchvision's data folder, with MNIST in it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--only", default="", help="a regular expression of names")
    parser.add_argument("--section", default="peers", help="which section of docs/benchmarks.md it writes")
    chosen = parser.parse_args()
    entries = [entry for entry in contestants(chosen.root, chosen.epochs) if re.search(chosen.only, entry.name)]
    for turn in range(chosen.rounds):
        for entry in entries:
            take_turn(entry)
            print(f"{turn + 1}/{chosen.rounds} {entry.name:32} {entry.ranks} ranks  ", end="")
            print(f"{entry.rates[-1]:9,.0f} samples/s  {entry.seconds[-1]:6.1f} s", flush=True)
    what = f"{counted(chosen.epochs, 'epoch')}, medians of {counted(chosen.rounds, 'turn')}"
    write(chosen.section, conditions(what) + result(entries))


def contestants(root: str, epochs: int) -> list[Entry]:
    """Everybody, in the order of their turns."""
    peer = ["--root", root, "--epochs", str(epochs)]
    alone = [sys.executable, "-m"]
    entries = [
        Entry("the tutorial's loop", 1, [*alone, "tests.bench.tutorial_loop", *peer]),
        Entry("scikit-learn SGDClassifier", 1, [*alone, "tests.bench.sklearn_job", *peer]),
        Entry("by hand in numpy", 1, [*alone, "tests.bench.numpy_loop", *peer]),
        Entry("bare loop, no exchange", 1, [*alone, "tests.bench.handwritten", *peer]),
        job(1, root, epochs),
    ]
    for ranks in (2, 4):
        entries += [
            Entry(name, ranks, [*torchrun(ranks), f"tests.bench.{file}", *peer]) for name, file in PEERS.items()
        ]
        entries += [
            Entry("bare loop, our exchange", ranks, [*torchrun(ranks), "tests.bench.handwritten", *peer]),
            job(ranks, root, epochs),
            job(ranks, root, epochs, launcher=TORCHRUN),
            job(ranks, root, epochs, "train.sync=bitwise", "train.shards=4"),
            job(ranks, root, epochs, "train.exchange=backend"),
        ]
    return entries


def job(ranks: int, root: str, epochs: int, *settings: str, launcher: str = "launch.torchrun") -> Entry:
    """This project's job, tracking off, as all the others are; on several ranks as launch/local.sh starts it."""
    start = torchrun(ranks, launcher) if ranks > 1 else [sys.executable, "-m"]
    fixed = [f"data.root={root}", "data.fallback=none", f"train.epochs={epochs}", "track.wandb=disabled"]
    plain = ["plain torchrun"] if launcher == TORCHRUN and ranks > 1 else []
    return Entry(", ".join([JOB, *settings, *plain]), ranks, [*start, "src.train", *fixed, *settings])


def torchrun(ranks: int, launcher: str = TORCHRUN) -> list[str]:
    """The same start for all but this job, which has its own launcher."""
    return [sys.executable, "-m", launcher, "--standalone", f"--nproc_per_node={ranks}", "-m"]


def take_turn(entry: Entry) -> dict[str, Any]:
    """Run the command once, from start to exit; returns what it reported. Leaves with its output if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        ours = "src.train" in entry.command
        command = [*entry.command, f"run.root={folder}"] if ours else entry.command
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT)
        entry.seconds.append(time.perf_counter() - began)
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        found = ours_said(folder) if ours else json.loads(done.stdout.strip().splitlines()[-1])
    entry.rates.append(found["samples_per_second"])
    entry.correct = found.get("correct", 0)
    return found


def ours_said(folder: str) -> dict[str, Any]:
    """status.json of the one run below the folder."""
    (status,) = Path(folder).glob("*/status.json")
    said: dict[str, Any] = json.loads(status.read_text())
    return said


def result(entries: list[Entry]) -> str:
    """The table; each row says who is faster, its contestant or this job, and how many times."""
    ours = {entry.ranks: entry for entry in entries if entry.name == JOB}
    rows = []
    for entry in sorted(entries, key=lambda entry: (entry.ranks, entry.rate)):
        base, winners = ours.get(entry.ranks), ["", ""]
        if base and base is not entry:
            winners = [winner(base.rate / entry.rate), winner(entry.wall / base.wall)]
        own = [str(entry.ranks), entry.name, f"{entry.rate:,.0f}", f"{entry.wall:.1f}", str(entry.correct or "")]
        rows.append([*own, *winners])
    return table(["ranks", "who", "samples/s", "command to exit, s", "correct", "faster steps", "sooner done"], rows)


def winner(ratio: float) -> str:
    """Who is faster and how many times, where this job is `ratio` times as fast as the row's contestant, "it"."""
    if 1 / CLOSE < ratio < CLOSE:
        return "both"
    return f"{JOB}, {ratio:.1f} x" if ratio > 1 else f"it, {1 / ratio:.1f} x"


if __name__ == "__main__":
    main()
