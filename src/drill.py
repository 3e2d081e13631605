"""The proof that nothing is lost: break a scratch run in every way, go on, compare with an unbroken one.

    python -m src.drill [--json] [--seed N] [--only NAME ...]

Every scenario uses real processes under torchrun in a temporary folder, and ends with the same command run
again until the run is finished. It passes if the weights have the reference's SHA-256 and metrics.jsonl the
reference's lines, each once.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from src import lines
from src.run import STOP, read_status

RANKS = 4
SETTINGS = (
    "data.name=digits",
    "train.sync=bitwise",
    "train.epochs=3",
    "train.device=cpu",
    "checkpoint.every_steps=150",
    "log.every=50",
    "track.wandb=disabled",
)
LEFT_SECONDS = 30  # nothing may be left so long after any death


@dataclass
class Result:
    """What was done to the run, and how it ended."""

    name: str
    died_at: int = 0
    went_on_at: list[int] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    sha256: str = ""
    problem: str = ""


class Drill:
    """One scratch run in a folder of its own."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        self.folder, self.name, self.random = folder, name, random.Random(f"{seed} {name}")
        self.path = folder / "runs" / name
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, ranks: int = RANKS, *settings: str, module: tuple[str, ...] = (), options: str = "") -> None:
        """Start the job; `module` stands in for src.train, `options` are torchrun's."""
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command += [*options.split(), f"--log-dir={self.folder / 'torchrun'}", "-m", *(module or ("src.train",))]
        command += [*SETTINGS, f"data.root={self.folder / 'data'}", f"run.root={self.folder / 'runs'}"]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, f"run.name={self.name}", *settings],
                stdout=log,
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                start_new_session=True,
            )

    def step(self) -> int:
        """The newest step in metrics.jsonl."""
        return max((line["step"] for line in lines.read(self.path / "metrics.jsonl")), default=0)

    def reach(self, low: int = 200, high: int = 2200) -> None:
        """Wait until a random step of that range is trained."""
        goal = self.random.randint(low, high)
        while self.step() < goal and self.process is not None and self.process.poll() is None:
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """The pids of the ranks."""
        assert self.process is not None
        return _children(self.process.pid)

    def wait(self) -> int:
        """Wait for the job's end, then for its last process; the exit code. Raises if something is left."""
        assert self.process is not None
        code = self.process.wait(timeout=120)
        deadline = time.monotonic() + LEFT_SECONDS
        while _alive(self.process.pid):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes are left: {_alive(self.process.pid)}")
            time.sleep(0.1)
        return code

    def newest(self) -> Path:
        """The newest checkpoint."""
        return max((self.path / "checkpoints").glob("step-*.pt"))


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _alive(session: int) -> list[int]:
    """Every live process of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            after_name = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if entry.name.isdigit() and int(after_name[3]) == session and after_name[0] not in "ZX":
            found.append(int(entry.name))
    return found


def kill_rank(drill: Drill) -> None:
    """kill -9 of a random rank."""
    drill.start()
    drill.reach()
    os.kill(drill.random.choice(drill.workers()), signal.SIGKILL)


def kill_ranks(drill: Drill) -> None:
    """kill -9 of all ranks."""
    drill.start()
    drill.reach()
    for pid in drill.workers():
        os.kill(pid, signal.SIGKILL)


def kill_torchrun(drill: Drill) -> None:
    """kill -9 of torchrun: the ranks must notice, save and leave."""
    drill.start()
    drill.reach()
    assert drill.process is not None
    drill.process.kill()


def restart(drill: Drill) -> None:
    """kill -9 of a rank under torchrun --max-restarts: the job goes on by itself."""
    drill.start(options="--max-restarts=3")
    drill.reach()
    os.kill(drill.random.choice(drill.workers()), signal.SIGKILL)


def in_checkpoint(point: str) -> Callable[[Drill], None]:
    """A checkpoint's write ends at the point."""

    def scenario(drill: Drill) -> None:
        drill.start(module=("src.faults", f"{point}@{drill.random.randint(2, 12)}"))

    return scenario


def truncated(drill: Drill) -> None:
    """The newest checkpoint loses its end."""
    kill_ranks(drill)
    drill.wait()
    os.truncate(drill.newest(), drill.newest().stat().st_size - drill.random.randint(1, 5000))


def flipped(drill: Drill) -> None:
    """The newest checkpoint has one byte changed."""
    kill_ranks(drill)
    drill.wait()
    content = bytearray(drill.newest().read_bytes())
    content[drill.random.randrange(len(content))] ^= 0x10
    drill.newest().write_bytes(content)


def sigterm(drill: Drill) -> None:
    """SIGTERM to torchrun, as from a scheduler."""
    drill.start()
    drill.reach()
    assert drill.process is not None
    drill.process.terminate()


def stop_file(drill: Drill) -> None:
    """A file STOP in the run directory."""
    drill.start()
    drill.reach(high=1500)
    (drill.path / STOP).touch()


def wall_clock(drill: Drill) -> None:
    """train.max_minutes is over."""
    drill.start(RANKS, "train.max_minutes=0.02")


def resized(drill: Drill) -> None:
    """Killed on 4 ranks, stopped on 2, killed on 8; it ends on 4."""
    for ranks, limit in ((RANKS, 700), (2, 1400), (8, 2000)):
        drill.start(ranks)
        drill.reach(limit - 400, limit)
        if ranks == 2:
            (drill.path / STOP).touch()
        else:
            for pid in drill.workers():
                os.kill(pid, signal.SIGKILL)
        drill.wait()


SCENARIOS: dict[str, Callable[[Drill], None]] = {
    "kill -9 of a random rank": kill_rank,
    "kill -9 of all ranks": kill_ranks,
    "kill -9 of torchrun": kill_torchrun,
    "kill -9 of a rank, --max-restarts": restart,
    "killed writing a checkpoint": in_checkpoint("writing"),
    "killed before its rename": in_checkpoint("sealing"),
    "killed after its rename": in_checkpoint("renamed"),
    "newest checkpoint truncated": truncated,
    "newest checkpoint, one byte flipped": flipped,
    "SIGTERM to torchrun": sigterm,
    "STOP file": stop_file,
    "wall clock": wall_clock,
    "disk full during a checkpoint": in_checkpoint("full"),
    "resumed on 2, 8 and 4 ranks": resized,
}


def curve(path: Path) -> list[str]:
    """metrics.jsonl without what depends on the clock."""
    return [
        json.dumps({name: value for name, value in line.items() if name != "samples_per_second"})
        for line in lines.read(path / "metrics.jsonl")
    ]


def perform(drill: Drill, scenario: Callable[[Drill], None], reference: Path) -> Result:
    """Break a run, go on until it is finished, compare."""
    result = Result(drill.name)
    try:
        scenario(drill)
        drill.wait()
        result.died_at = drill.step()
        for _ in range(3):
            if read_status(drill.path).get("state") == "finished":
                break
            drill.start()
            drill.wait()
    except (RuntimeError, OSError, LookupError, subprocess.TimeoutExpired) as error:
        result.problem = f"{type(error).__name__}: {error}"
    events = list(lines.read(drill.path / "events.jsonl"))
    result.went_on_at = [event["step"] for event in events if event["event"] == "resume"]
    result.ranks = [event["world_size"] for event in events if event["event"] in ("start", "resume")]
    result.sha256 = read_status(drill.path).get("weights_sha256", "")
    result.problem = result.problem or _difference(drill.path, reference) or _harmless(events)
    return result


def _difference(path: Path, reference: Path) -> str:
    """What is not as in the reference, or ''."""
    if (state := read_status(path).get("state")) != "finished":
        return f"state {state}"
    if read_status(path)["weights_sha256"] != read_status(reference)["weights_sha256"]:
        return "other weights"
    return "" if curve(path) == curve(reference) else "metrics.jsonl differs"


def _harmless(events: list[dict[str, Any]]) -> str:
    """A complaint if nothing was broken: then the scenario has proven nothing."""
    harm = {"resume", "checkpoint failed"} & {event["event"] for event in events}
    return "" if harm else "nothing was broken"


def run(names: list[str], seed: int) -> Iterator[tuple[Result, str]]:
    """Each scenario's result and the reference's hash, as they come; the reference first."""
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        reference = Drill(Path(folder), "reference", seed)
        reference.start()
        reference.wait()
        digest = read_status(reference.path).get("weights_sha256", "")
        problem = "" if digest else (Path(folder) / "reference.log").read_text()[-2000:]
        yield Result("uninterrupted", sha256=digest, ranks=[RANKS], problem=problem), digest
        for name in names if digest else []:
            yield perform(Drill(Path(folder), name, seed), SCENARIOS[name], reference.path), digest


def main() -> None:
    """Print the table; exit 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m src.drill", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a scenario")
    parser.add_argument("--seed", type=int, default=0, help="decides the random moments and ranks")
    parser.add_argument("--only", nargs="+", default=list(SCENARIOS), choices=list(SCENARIOS), metavar="NAME")
    chosen = parser.parse_args()
    failed = 0
    if not chosen.json:
        print(f"{'what was done':38} {'died at':>7}  {'went on at':18} {'ranks':12} {'hash':10} {'reference':10}")
    for result, reference in run(chosen.only, chosen.seed):
        failed += bool(result.problem)
        print(_json(result, reference) if chosen.json else _row(result, reference), flush=True)
    raise SystemExit(1 if failed else 0)


def _json(result: Result, reference: str) -> str:
    facts: dict[str, Any] = asdict(result) | {"reference": reference, "passed": not result.problem}
    return json.dumps(facts)


def _row(result: Result, reference: str) -> str:
    steps, ranks = " ".join(map(str, result.went_on_at)) or "-", " ".join(map(str, result.ranks))
    verdict = f"FAIL: {result.problem}" if result.problem else "PASS"
    name = f"{result.name:38} {result.died_at or '-':>7}  {steps:18} {ranks:12}"
    return f"{name} {result.sha256[:8]:10} {reference[:8]:10} {verdict}"


if __name__ == "__main__":
    main()
