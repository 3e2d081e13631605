"""A data set larger than the memory that the job may use: python -m tests.bench.larger [--gigabytes 4] [--limit 1]

Writes random pictures once, trains on them without a limit while they are in the page cache, then in a memory cgroup
of `limit` gigabytes, and prints samples/s and a rank's memory. Needs root and a cgroup that can be written.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from src.data import idx

SIDE = 20
GROUPS = {Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes", Path("/sys/fs/cgroup"): "memory.max"}


def write(root: Path, samples: int) -> None:
    """Random pictures and labels; 1,000 of them to test on."""
    raw, random = root / "IDX" / "raw", np.random.default_rng(0)
    raw.mkdir(parents=True, exist_ok=True)
    for (images, labels), count in ((idx.TRAIN, samples), (idx.TEST, 1000)):
        for name, shape in ((images, (count, SIDE, SIDE)), (labels, (count,))):
            if (raw / name).exists():
                continue
            with (raw / f"{name}.part").open("wb") as stream:
                header = bytes((0, 0, 8, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape)
                stream.write(header)
                for start in range(0, count, 1_000_000):
                    size = (min(1_000_000, count - start), *shape[1:])
                    stream.write(random.integers(0, 10 if len(shape) == 1 else 256, size, np.uint8).tobytes())
                stream.flush()
                os.fsync(stream.fileno())
            (raw / f"{name}.part").rename(raw / name)


@contextmanager
def limited(gigabytes: float) -> Iterator[Path | None]:
    """A memory cgroup; None where there is no limit."""
    if not gigabytes:
        yield None
        return
    parent, limit = next((parent, name) for parent, name in GROUPS.items() if (parent / "cgroup.procs").exists())
    group = parent / f"larger-{os.getpid()}"
    group.mkdir()
    try:
        (group / limit).write_text(str(int(gigabytes * 1e9)))
        yield group
    finally:
        time.sleep(1)
        group.rmdir()


def cold(root: Path) -> None:
    """Take the files out of the page cache, which is charged to whoever reads them first."""
    for file in (root / "IDX" / "raw").iterdir():
        handle = os.open(file, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def warm(root: Path) -> None:
    """Read the files, so that they are in the page cache."""
    for file in (root / "IDX" / "raw").iterdir():
        subprocess.run(["dd", f"if={file}", "of=/dev/null", "bs=4M"], check=True, capture_output=True)


def measured(root: Path, ranks: int, steps: int, group: Path | None, *settings: str) -> dict[str, object]:
    """Samples/s after the first tenth, and the memory of the ranks while they train."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "-m", "src.train"]
        command += ["data.name=idx", f"data.root={root}", f"run.root={runs}", f"train.max_steps={steps}"]
        command += ["track.wandb=disabled", "log.every=20", "train.global_batch_size=256", *settings]
        entering = f"echo $$ > {group}/cgroup.procs && " if group else ""
        job = subprocess.Popen(
            ["sh", "-c", f'{entering}exec "$@"', "sh", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        memory: list[dict[str, int]] = []
        watching = threading.Thread(target=watch, args=(job, memory), daemon=True)
        watching.start()
        output, _ = job.communicate()
        if job.returncode:
            raise SystemExit(output)
        lines = [json.loads(line) for file in Path(runs).glob("*/metrics.jsonl") for line in file.open()]
    rates = sorted(line["samples_per_second"] for line in lines if line.get("samples_per_second"))
    held = [one for one in memory if one["anon"] > 150]
    late = held[len(held) // 2 :]
    return {
        "samples/s": round(rates[len(rates) // 2]),
        "anon MB, middle and last": (late[0]["anon"], late[-1]["anon"]) if late else (),
        "file MB, most": max((one["file"] for one in late), default=0),
    }


def watch(job: "subprocess.Popen[str]", memory: list[dict[str, int]]) -> None:
    """The memory of one rank, each half second."""
    while job.poll() is None:
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                text, words = status.read_text(), (status.parent / "cmdline").read_bytes()
            except OSError:
                continue
            if f"PPid:\t{job.pid}\n" in text and b"src.train" in words:
                found = {name: int(size) // 1024 for name, size in re.findall(r"Rss(Anon|File):\s+(\d+)", text)}
                memory.append({"anon": found.get("Anon", 0), "file": found.get("File", 0)})
                break
        time.sleep(0.5)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=4.4)
    parser.add_argument("--limit", type=float, default=1.0)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--root", type=Path, default=Path(tempfile.gettempdir()) / "larger")
    parser.add_argument("--limited-only", action="store_true", help="leave the case in memory out")
    parser.add_argument("settings", nargs="*")
    chosen = parser.parse_args()
    write(chosen.root, int(chosen.gigabytes * 1e9 / SIDE**2))
    for limit in (chosen.limit,) if chosen.limited_only else (0.0, chosen.limit):
        for shuffle in ("full", "blocks"):
            (cold if limit else warm)(chosen.root)
            with limited(limit) as group:
                found = measured(
                    chosen.root, chosen.ranks, chosen.steps, group, f"data.shuffle={shuffle}", *chosen.settings
                )
            print(f"{shuffle:6}  {f'limit {limit:g} GB' if limit else 'in memory':12}  {found}", flush=True)


if __name__ == "__main__":
    main()
