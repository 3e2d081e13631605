"""One GPU: this job beside the loops that people write, each its own command, in turns; medians into the docs."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tests.bench.page import conditions, counted, table, write

ROOT = Path(__file__).parent.parent.parent
JOB = "this job"
RECORDED = "this job, train.cuda_graph=true"
LOOPS = {
    "Lightning": "lightning",
    "Accelerate": "accelerate",
    "PyTorch, DataLoader": "plain",
    "PyTorch, data on the GPU": "resident",
}
FAST = ["train.precision=bfloat16", "train.compile=true"]
TRANSFORMER = ["model.name=transformer", "model.width=256", "model.layers=4", "model.heads=8"]
TRANSFORMER += ["optim.name=adamw", "optim.lr=0.001"]
WORKLOADS = {
    "logistic, batch 64, float32": (["train.global_batch_size=64"], 4),
    "convnet of 32 channels, batch 512, bfloat16, compiled": (
        ["model.name=convnet", "model.channels=32", "train.global_batch_size=512", "optim.momentum=0.9", *FAST],
        6,
    ),
    "transformer of 256 x 4, batch 128 x 64 bytes, bfloat16, compiled": (
        ["data.name=sums", "data.block=64", *TRANSFORMER, "train.global_batch_size=128", *FAST],
        6,
    ),
}


def main() -> None:
    """Measure in turns; print, and write docs/gpus.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", default="data", help="the data folder, with MNIST in it")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="a regular expression of workloads")
    parser.add_argument("--who", default="", help="a regular expression of contestants")
    chosen = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", tempfile.mkdtemp())  # all but the first find compiled code
    for turn in range(chosen.rounds):
        for workload, (settings, epochs) in WORKLOADS.items():
            for who in [*LOOPS, JOB, RECORDED]:
                if not re.search(chosen.only, workload) or not re.search(chosen.who, who):
                    continue
                took = run(who, [f"data.root={chosen.root}", f"train.epochs={epochs}", *settings])
                found.setdefault((workload, who), []).append(took)
                print(f"{turn + 1} {workload} {who}: {took[0]:,.0f} samples/s, {took[1]:.1f} s", flush=True)
    write("gpu", result(found, chosen.rounds))


def run(who: str, settings: list[str]) -> tuple[float, float]:
    """(samples/s after the first epoch, seconds from command to exit). Leaves with the output of what fails."""
    with tempfile.TemporaryDirectory() as folder:
        ours = ["src.train", "track.wandb=disabled", "data.fallback=none", f"run.root={folder}"]
        module = ["tests.bench.gpu_loop", LOOPS[who]] if who in LOOPS else ours
        module = [*module, *["train.cuda_graph=true"] * (who == RECORDED)]
        command = [sys.executable, "-m", *module, *settings]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        seconds = time.perf_counter() - began
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        if who not in LOOPS:
            return rate_after_first_epoch(next(Path(folder).glob("*/metrics.jsonl"))), seconds
        said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return said["samples_per_second"], seconds


def rate_after_first_epoch(metrics: Path) -> float:
    """From the job's own lines, whose rate is over all steps so far."""
    lines = [line for line in map(json.loads, metrics.read_text().splitlines()) if line["kind"] == "train"]
    first = [line for line in lines if line["epoch"] == 1][-1]
    (samples, seconds), (before, until) = (
        (line["samples_seen"], line["samples_seen"] / line["samples_per_second"]) for line in (lines[-1], first)
    )
    return float((samples - before) / (seconds - until))


def result(found: dict[tuple[str, str], list[tuple[float, float]]], rounds: int) -> str:
    """The table."""
    rows = []
    for (workload, who), turns in found.items():
        rate, seconds = (statistics.median(values) for values in zip(*turns, strict=True))
        ours = max(statistics.median(one[0] for one in found.get((workload, who), turns)) for who in (JOB, RECORDED))
        ratio = "" if who not in LOOPS else f"{ours / rate:.2f} x"
        rows.append([workload, who, f"{rate:,.0f}", ratio, f"{seconds:.1f}"])
    head = ["workload", "who", "samples/s after the first epoch", "this job", "command to exit, s"]
    where = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}; medians of {counted(rounds, 'turn')}"
    return conditions(where) + table(head, rows)


if __name__ == "__main__":
    main()
