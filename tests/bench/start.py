"""How long a start and a restart take, forked and not, in turns: python -m tests.bench.start, into the docs."""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.compare import ENVIRONMENT, ROOT
from tests.bench.page import conditions, table, write
from tests.helpers.processes import environment, family

RANKS = (2, 4)
LAUNCHERS = {"plain torchrun": "torch.distributed.run", "launch/": "launch.torchrun"}
KILLED = 1  # the rank that is killed
# (the mark that ends it, on whom: the first or the last; what passes until then)
RESTART = (
    (
        "> first_cause",
        min,
        "another rank misses the killed one in a step (it looks every 0.25 s)",
    ),
    (
        "> _close",
        min,
        "torchrun looks at its ranks (`--monitor-interval`, 0.05 s here, 0.1 s by default) and sends SIGTERM",
    ),
    ("< _close", min, "the other ranks leave, having written why into status.json (30 s later: SIGKILL)"),
    ("< next_rendezvous", min, "rendezvous (one host: nobody is waited for)"),
    ("< _start_workers", min, "forks"),
    ("> open_store", max, "the ranks read their settings"),
    ("< init_process_group", max, "the ranks meet: store, gloo"),
    ("< load", max, "data set"),
    ("< open", max, "run directory: lock, who starts it"),
    ("< resume", max, "checkpoint"),
    ("< prepare", max, "gradients, tracking, status"),
    ("< update", max, "first step"),
)


def main() -> None:
    """Measure in turns and write docs/benchmarks.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="data", help="torchvision's data folder, with MNIST in it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", default="mnist")
    chosen = parser.parse_args()
    data = [f"data.root={chosen.root}", f"data.name={chosen.data}", "data.fallback=none", "track.wandb=disabled"]
    text = conditions(f"1 epoch, {chosen.rounds} turns, from command to exit") + starts(data, chosen.rounds)
    write("start", text)
    text = conditions(f"`kill -9` of one of 4 ranks, {chosen.rounds} turns") + restarts(data, chosen.rounds)
    write("restart", text)


def starts(data: list[str], rounds: int) -> str:
    """Whole jobs."""
    taken: dict[tuple[int, str], list[tuple[float, float]]] = {(n, name): [] for n in RANKS for name in LAUNCHERS}
    for _ in range(rounds):
        for ranks, name in taken:
            with tempfile.TemporaryDirectory() as folder:
                before, began = processor(), time.perf_counter()
                words = command(LAUNCHERS[name], ranks, [*data, "train.epochs=1", f"run.root={folder}"])
                subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True)
                taken[ranks, name].append((time.perf_counter() - began, processor() - before))
    rows = []
    for (ranks, name), turns in taken.items():
        walls, cores = zip(*turns, strict=True)
        low, middle, core = min(walls), statistics.median(walls), min(cores)
        rows.append([f"{ranks} ranks with {name}", f"{low:.1f}", f"{middle:.1f}", f"{core:.1f}"])
    return table(["", "least, s", "median, s", "processor time, s"], rows)


def command(module: str, ranks: int, settings: list[str], *options: str) -> list[str]:
    """A job's command line."""
    start = [sys.executable, "-m", module, "--standalone", f"--nproc-per-node={ranks}", *options]
    return [*start, "-m", "src.train", *settings]


def processor() -> float:
    """Seconds of processor time of this process's children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def restarts(data: list[str], rounds: int) -> str:
    """What a restart waits for."""
    turns = [restart(data) for _ in range(rounds)]
    least = min(turns, key=sum)
    middle = [statistics.median(turn[at] for turn in turns) for at in range(len(RESTART))]
    rows = [[what, f"{a:.0f}", f"{b:.0f}"] for (_, _, what), a, b in zip(RESTART, least, middle, strict=True)]
    totals = [sum(turn) for turn in turns]
    rows.append(["**from the kill to the next step**", f"{min(totals):.0f}", f"{statistics.median(totals):.0f}"])
    return table(["what passes", "quickest turn, ms", "median, ms"], rows)


def restart(data: list[str]) -> list[float]:
    """Milliseconds of each phase."""
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder) / "marks"
        settings = [*data, f"run.root={folder}", "run.name=r", "train.epochs=1000", "checkpoint.every_steps=100"]
        words = command("tests.bench.phases", 4, settings, "--max-restarts=1")
        job = subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT | {"MARKS": str(marks)}, stdout=subprocess.DEVNULL)
        wait(lambda: status(folder).get("step", 0) >= 1000)
        (victim,) = (pid for pid in family(job.pid) if environment(pid).get("RANK") == str(KILLED))
        killed = time.time()
        os.kill(victim, signal.SIGKILL)
        wait(lambda: len(times(marks, killed, "< update")) == 4)
        job.terminate()
        job.wait()
        ends = [pick(times(marks, killed, phase)) for phase, pick, _ in RESTART]
    return [1000 * (end - begin) for begin, end in zip([killed, *ends[:-1]], ends, strict=True)]


def wait(condition: object) -> None:
    """Until it is true."""
    while not condition():  # type: ignore[operator]
        time.sleep(0.05)


def status(folder: str) -> dict[str, int]:
    """status.json, {} before it is there."""
    file = Path(folder) / "r" / "status.json"
    found: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    return found


def times(marks: Path, since: float, phase: str) -> list[float]:
    """When the phase was marked, each time."""
    lines = (line.split(" ", 2) for line in marks.read_text().splitlines())
    return [float(at) for at, _, what in lines if what == phase and float(at) > since]


if __name__ == "__main__":
    main()
