"""Check this host before a job: python -m src.doctor [key=value ...] [--ranks N] [--nodes a,b] [--only CHECK ...]

One line for each check, with the settings of the job that will run: green, yellow or red, a message, and a fix. Exit
code 1 if anything is red.
"""

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from src import config, console, environment
from src.doctor import host_checks, network_checks, rehearsal, storage_checks
from src.doctor.findings import Finding, Plan, red
from src.errors import JobFailed, UserError

SECONDS = 30.0  # two ranks start in 4 s; in 20 s if five processes share a core
COLOURS = {"green": "32", "yellow": "33", "red": "31"}


@dataclass(frozen=True)
class Check:
    """A check, and the fix to print if it does not end in time."""

    run: Callable[[Plan], Finding]
    fix: str = ""


NAME_SERVER = "add the host's name to /etc/hosts: its name server does not answer"
NFS = "on another file system (a dead NFS server?)"
CHECKS = {
    "versions": Check(host_checks.versions, "make setup"),
    "surroundings": Check(host_checks.surroundings),
    "gpus": Check(host_checks.gpus, "look at nvidia-smi, or use train.device=cpu"),
    "cores": Check(host_checks.cores),
    "memory": Check(host_checks.memory, "train.exchange=backend does not use /dev/shm"),
    "host name": Check(network_checks.name, NAME_SERVER),
    "interface": Check(network_checks.interface, NAME_SERVER),
    "port": Check(network_checks.port),
    "hosts": Check(network_checks.clocks, "leave the host that hangs out of --nodes="),
    "all-reduce": Check(rehearsal.all_reduce),
    "data": Check(storage_checks.dataset, f"data.root= {NFS}"),
    "run": Check(storage_checks.directory, f"run.root= {NFS}"),
    "disk": Check(storage_checks.disk, f"run.root= {NFS}"),
    "wandb": Check(network_checks.wandb, "track.wandb=offline"),
}


class Examination(threading.Thread):
    """One check in its own thread: if it hangs or fails, the others still end."""

    def __init__(self, name: str, plan: Plan) -> None:
        super().__init__(name=name, daemon=True)
        self._plan = plan
        self.finding: Finding | None = None

    def run(self) -> None:
        """Run the check; an exception is a red finding."""
        try:
            self.finding = CHECKS[self.name].run(self._plan)
        except UserError as error:
            self.finding = red(error.message, error.fix)
        except JobFailed as error:
            self.finding = red(str(error))
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            self.finding = red(f"{type(error).__name__}: {text}", "this is a bug: please report it")


def examine(plan: Plan, names: list[str]) -> Iterator[tuple[str, Finding]]:
    """Run the checks at the same time; yields each finding, in order, as soon as it is known."""
    examinations, began = [Examination(name, plan) for name in names], time.monotonic()
    for examination in examinations:
        examination.start()
    for examination in examinations:
        examination.join(max(0.0, began + plan.seconds - time.monotonic()))
        timeout = red(f"no answer within {plan.seconds:g} s", CHECKS[examination.name].fix)
        yield examination.name, examination.finding or timeout


def line(name: str, finding: Finding, coloured: bool) -> str:
    """A finding as a line of text."""
    mark = f"{finding.colour:6}"
    if coloured:
        mark = f"\x1b[{COLOURS[finding.colour]}m{mark}\x1b[0m"
    fix = f"  -> {finding.fix}" if finding.fix else ""
    return f"{mark}  {name:{max(map(len, CHECKS))}}  {finding.message}{fix}"


def report(plan: Plan, names: list[str], as_json: bool) -> int:
    """Print every finding; returns how many are red."""
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    counts = dict.fromkeys(COLOURS, 0)
    for name, finding in examine(plan, names):
        counts[finding.colour] += 1
        fields = {"check": name, "host": socket.gethostname(), "state": finding.colour}
        fields |= {"message": finding.message, "fix": finding.fix}
        print(json.dumps(fields) if as_json else line(name, finding, coloured), flush=True)
    if not as_json:
        print(", ".join(f"{number} {colour}" for colour, number in counts.items() if number))
    return counts["red"]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m src.doctor", description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="key=value", help="the settings of the job, or config=FILE")
    parser.add_argument("--ranks", type=int, default=0, help="ranks on this host (default: as launch/)")
    parser.add_argument("--nodes", default="", help="hosts of the job (default: those of the Slurm job)")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each check")
    parser.add_argument("--only", nargs="+", choices=CHECKS, metavar="CHECK", help=", ".join(CHECKS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"longest time for a check ({SECONDS:.0f})")
    chosen = parser.parse_intermixed_args()
    with console.one_line_errors():
        settings = config.parse(chosen.settings)
        if chosen.ranks < 0:
            raise UserError(f"--ranks={chosen.ranks}: must be at least 1")
        ranks = chosen.ranks or environment.ranks_per_node()
        plan = Plan(settings, chosen.settings, ranks, network_checks.hosts(chosen.nodes), chosen.seconds)
        raise SystemExit(1 if report(plan, chosen.only or list(CHECKS), chosen.json) else 0)


if __name__ == "__main__":
    console.run_and_leave(main)
