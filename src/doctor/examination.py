"""The checks, each in a thread of its own, and their findings, printed as soon as they are there."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from src import files
from src.doctor import environment_checks, host_checks, model_checks, network_checks, rehearsal, storage_checks
from src.doctor.findings import Finding, Plan, red
from src.errors import JobFailed, UserError

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
    "variables": Check(environment_checks.variables),
    "limits": Check(host_checks.process_limits),
    "gpus": Check(host_checks.gpus, "look at nvidia-smi, or use train.device=cpu"),
    "cores": Check(host_checks.cores),
    "memory": Check(host_checks.memory, "train.exchange=backend does not use /dev/shm"),
    "host name": Check(network_checks.name, NAME_SERVER),
    "interface": Check(network_checks.interface, NAME_SERVER),
    "port": Check(network_checks.port),
    "hosts": Check(network_checks.clocks, "leave the host that hangs out of --nodes="),
    "all-reduce": Check(rehearsal.all_reduce),
    "model": Check(model_checks.model, "the model takes long for a few samples: --seconds=120"),
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
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            self.finding = red(f"{where}{files.reason(error)}", files.advice(error))
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
