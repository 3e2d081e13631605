"""What a further rank costs in memory, and what a larger data set costs in time: into docs/memory.md."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.compare import Entry, take_turn
from tests.bench.page import conditions, counted, table, write

ROOT = Path(__file__).parent.parent.parent
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
TIMES = (1, 10, 100)
TORCH = "import time, torch, torch.distributed; from torch.utils.data import DistributedSampler; "
IDLE = TORCH + "import torch.nn.parallel; time.sleep(60)"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="data", help="torchvision's data folder, with MNIST in it")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        memory = [memory_row(sync, chosen.root, Path(folder)) for sync in ("bitwise", "ddp")]
        growth = growth_rows(Path(chosen.root) / "MNIST" / "raw", Path(folder), chosen.rounds)
    text = conditions(f"1 rank where not said otherwise; medians of {counted(chosen.rounds, 'turn')}")
    own = ["private memory of one of 4 ranks, MB", "while it trains", "torch imported, nothing else", "the job's own"]
    grown = ["MNIST, repeated in IDX files", "samples", "us a step", "to MNIST"]
    write("growth", text + table(own, memory) + "\n" + table(grown, growth))


def memory_row(sync: str, root: str, folder: Path) -> list[str]:
    """Private MB of the last of four training ranks, and of an idle process."""
    settings = [f"data.root={root}", f"run.root={folder}", f"run.name={sync}", "train.epochs=1000"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=4", "-m", "src.train"]
    job = start([*command, *settings, f"train.sync={sync}", "track.wandb=disabled", "checkpoint.every_epochs=0"])
    idle = start([sys.executable, "-c", IDLE])
    time.sleep(20)
    ranks = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    used, base = private(ranks[-1]), private(str(idle.pid))
    for process in (job, idle):
        process.terminate()
        process.wait()
    return [sync, f"{used:.0f}", f"{base:.0f}", f"{used - base:.0f}"]


def start(command: list[str]) -> "subprocess.Popen[bytes]":
    """A process whose output nobody reads."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def private(pid: str) -> float:
    """Megabytes that would be free if the process ended: shared code and the mapped data set do not count."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def growth_rows(raw: Path, folder: Path, rounds: int) -> list[list[str]]:
    """The time of a step on data sets of several sizes, in turns."""
    entries = {times: entry(enlarged(raw, folder / str(times), times), times) for times in TIMES}
    for _ in range(rounds):
        for one in entries.values():
            take_turn(one)
    steps = {times: 64e6 / statistics.median(one.rates) for times, one in entries.items()}
    return [
        [f"{times} x", f"{60_000 * times:,}", f"{step:.0f}", f"{step / steps[1]:.2f}"] for times, step in steps.items()
    ]


def entry(root: Path, times: int) -> Entry:
    """About the same number of steps for each size."""
    epochs = max(1, 10 // times)
    settings = ["data.name=idx", f"data.root={root}", f"train.epochs={epochs}", "track.wandb=disabled"]
    return Entry(f"{times} times", 1, [sys.executable, "-m", "src.train", *settings])


def enlarged(raw: Path, root: Path, times: int) -> Path:
    """A data root with MNIST's training set repeated."""
    target = root / "IDX" / "raw"
    target.mkdir(parents=True)
    for name in FILES:
        repeat = times if name.startswith("train") else 1
        content = (raw / name).read_bytes()
        header = 16 if "images" in name else 8
        with (target / name).open("wb") as stream:
            stream.write(content[:4] + (60_000 * times if "train" in name else 10_000).to_bytes(4, "big"))
            stream.write(content[8:header])
            for _ in range(repeat):
                stream.write(content[header:])
    return root


if __name__ == "__main__":
    main()
