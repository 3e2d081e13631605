"""Interrupt and damage test runs in many ways, resume them, and compare each with an uninterrupted run.

    python -m src.drill [--model NAME] [--json] [--seed N] [--only NAME ...]

Every scenario uses real processes under torchrun in a temporary folder. After the fault the same command is repeated
until the run is finished. A scenario passes if the weights, and the averaged ones, have the SHA-256 of the reference,
and metrics.jsonl has the lines of the reference, each once.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

if not __package__:  # `python src/drill`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from src import interrupts, leaving
from src.console import one_line_errors
from src.drill.scenarios import RANKS, SCENARIOS, Drill
from src.drill.workloads import WORKLOADS
from src.run import jsonl, layout
from src.run.layout import State, read_status

CLOCKED = ("samples_per_second", "seconds")  # of a line of metrics.jsonl


@dataclass
class Result:
    """How a scenario ended. `problem` says why it failed; it is empty for a pass."""

    name: str
    died_at: int = 0
    resumed_at: list[int] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    sha256: str = ""
    problem: str = ""


def curve(path: Path) -> list[str]:
    """The lines of metrics.jsonl without the fields that depend on the clock."""
    return [
        json.dumps({name: value for name, value in line.items() if name not in CLOCKED})
        for line in jsonl.read(path / layout.METRICS)
    ]


def perform(drill: Drill, scenario: Callable[[Drill], None], reference: Path) -> Result:
    """Run a scenario, repeat the command until the run is finished, and compare it with the reference."""
    result = Result(drill.name)
    try:
        scenario(drill)
        drill.wait()
        result.died_at = drill.step()
        for _ in range(3):
            if read_status(drill.path).get("state") == State.FINISHED:
                break
            drill.start()
            drill.wait()
    except (RuntimeError, OSError, LookupError, subprocess.TimeoutExpired) as error:
        result.problem = f"{type(error).__name__}: {error}"
    events = list(jsonl.read(drill.path / layout.EVENTS))
    result.resumed_at = [event["step"] for event in events if event["event"] == "resume"]
    result.ranks = [event["world_size"] for event in events if event["event"] in ("start", "resume")]
    result.sha256 = read_status(drill.path).get("weights_sha256", "")
    result.problem = result.problem or _difference(drill.path, reference) or _without_fault(events)
    return result


def _difference(path: Path, reference: Path) -> str:
    """How the run differs from the reference, '' if it does not."""
    if (state := read_status(path).get("state")) != State.FINISHED:
        return f"state {state}"
    for name in ("weights_sha256", "average_sha256"):
        if read_status(path).get(name) != read_status(reference).get(name):
            return f"different {name.removesuffix('_sha256')}"
    return "" if curve(path) == curve(reference) else "metrics.jsonl differs"


def _without_fault(events: list[dict[str, Any]]) -> str:
    """The problem of a run that was never interrupted: its scenario has tested nothing. '' if it was."""
    faults = {"resume", "checkpoint failed"} & {event["event"] for event in events}
    return "" if faults else "the fault did not occur"


def run(names: list[str], seed: int, model: str) -> Iterator[tuple[Result, str]]:
    """Yield (result, SHA-256 of the reference) for the reference itself and then for each scenario."""
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        reference = Drill(Path(folder), "reference", seed, model)
        reference.start()
        reference.wait()
        digest = read_status(reference.path).get("weights_sha256", "")
        problem = "" if digest else (Path(folder) / "reference.log").read_text()[-2000:]
        yield Result("uninterrupted", sha256=digest, ranks=[RANKS], problem=problem), digest
        for name in names if digest else []:
            yield perform(Drill(Path(folder), name, seed, model), SCENARIOS[name], reference.path), digest


def main() -> None:
    """Print a row for each scenario; exit with 1 if one failed."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m src.drill", description=__doc__, formatter_class=raw)
    parser.add_argument("--model", default="logistic", choices=list(WORKLOADS), help="what is trained")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each scenario")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random steps and ranks")
    only = f"scenarios, instead of all: {', '.join(SCENARIOS)}"
    parser.add_argument(
        "--only", nargs="+", default=list(SCENARIOS), choices=list(SCENARIOS), metavar="NAME", help=only
    )
    chosen = parser.parse_args()
    with one_line_errors():
        interrupts.exit_on_signal()
        failed = 0
        if not chosen.json:
            print(f"{'scenario':38} {'died at':>7}  {'resumed at':18} {'ranks':12} {'hash':10} {'reference':10}")
        for result, reference in run(chosen.only, chosen.seed, chosen.model):
            failed += bool(result.problem)
            print(_json(result, reference) if chosen.json else _row(result, reference), flush=True)
        raise SystemExit(1 if failed else 0)


def _json(result: Result, reference: str) -> str:
    facts: dict[str, Any] = asdict(result) | {"reference": reference, "passed": not result.problem}
    return json.dumps(facts)


def _row(result: Result, reference: str) -> str:
    steps, ranks = " ".join(map(str, result.resumed_at)) or "-", " ".join(map(str, result.ranks))
    verdict = f"FAIL: {result.problem}" if result.problem else "PASS"
    name = f"{result.name:38} {result.died_at or '-':>7}  {steps:18} {ranks:12}"
    return f"{name} {result.sha256[:8]:10} {reference[:8]:10} {verdict}"


if __name__ == "__main__":
    leaving.run_and_leave(main)
