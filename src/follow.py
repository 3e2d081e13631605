"""What a run's own terminal shows, read from its folder: python -m src.status --follow RUN"""

import json
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.console import Console
from src.errors import UserError
from src.run import layout, results, tables
from src.run.layout import ExitCode, State, StopReason, read_status
from src.run.lock import holder
from src.schema import TEST, VALIDATION

LOOK_SECONDS = 0.5
LINE_SECONDS = 2.0  # between lines where the output is no terminal
GONE_SECONDS = 60.0  # a run that failed or was killed may be started again: torchrun, Kubernetes and Slurm do so
BY_HAND = (StopReason.SIGINT, StopReason.SIGHUP, StopReason.SIGQUIT)  # nobody starts it again but the user
KILLED = "killed"
LABELS = {State.FINISHED: "result", State.PREEMPTED: "stopped", State.FAILED: "failed", KILLED: "killed"}
EXIT_CODES = {
    State.FINISHED: ExitCode.FINISHED,
    State.PREEMPTED: ExitCode.STOPPED,
    State.FAILED: ExitCode.FAILED,
    KILLED: ExitCode.FAILED,
}


@dataclass
class Position:
    """Where the newest line of metrics.jsonl is."""

    epoch: int
    step_in_epoch: int
    step: int


def follow(run: Path, each_look: Callable[[], None] = lambda: None) -> ExitCode:
    """Show the run until it has ended; returns how. `each_look` is called as often. Raises UserError for no run."""
    if not (run / layout.STATUS).exists():
        raise UserError(
            f"{run}: is no run (no {layout.STATUS} there)", fix="name the folder of a run, such as runs/NAME"
        )
    follower = Follower(run)
    try:
        while (code := follower.look()) is None:
            each_look()
            time.sleep(LOOK_SECONDS)
    finally:
        follower.close()
    return code


class Follower:
    """Shows a run as it goes on."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._lines = _Tail(run / layout.METRICS)
        self._console = Console(True, 0, 0, LINE_SECONDS)
        self._shape = (0, 0)
        self._samples = 0
        self._said = ""
        self._since = time.monotonic()

    def look(self) -> ExitCode | None:
        """Show what is new; returns how the run ended, None while it goes on or may be started again."""
        status = read_status(self._run)  # before the lines: a state that ends is written after the last of them
        now = state(self._run, status)
        self._begin(status)
        for line in self._lines.read():
            self._show(line)
        if now in (State.RUNNING, "?"):
            self._said = ""
            return None
        return self._ended(now, status)

    def close(self) -> None:
        """Take the bar away."""
        self._console.stop()

    def _begin(self, status: dict[str, Any]) -> None:
        """Take over the number of steps, which a run that goes on may have changed."""
        shape = status.get("last_step", 0), status.get("steps_per_epoch", 0)
        if shape != self._shape:
            self._console.stop()
            samples = status.get("batch", 0)
            self._shape, self._console = shape, Console(True, 0, samples, LINE_SECONDS)
            self._console.start(shape[1], shape[0])

    def _show(self, line: dict[str, Any]) -> None:
        epoch, step = line["epoch"] - 1, line["step"]
        position = Position(epoch, step - epoch * self._shape[1], step)
        if line["kind"] == "train":
            items = max(1, line["samples_seen"] - self._samples)
            self._samples = line["samples_seen"]
            self._console.training(position, line["loss"], items, line["samples_per_second"])
        elif line["kind"] in (TEST, VALIDATION):
            self._console.evaluation(line["kind"], position, "  ".join(self._texts(line)))

    def _texts(self, line: dict[str, Any]) -> list[str]:
        """Each metric as training prints it: 7433/10000 = 74.33 %, loss 0.2677."""
        if tables.read(self._run, results.DESCRIPTION) is None:
            time.sleep(LOOK_SECONDS)  # of the first evaluation it is written after the line
        described, texts = results.describe(self._run, line), []
        for number, name in enumerate(described.names):
            text = described.text(name, line)
            if name in described.shares:
                above, below = described.shares[name]
                label = f"{name} " if number else ""
                texts.append(f"{label}{line.get(above)}/{line.get(below)} = {text}")
            else:
                value = described.value(name, line)
                texts.append(f"{name} {value:.4f}" if value is not None else f"{name} {text}")
        return texts

    def _ended(self, now: str, status: dict[str, Any]) -> ExitCode | None:
        waits, said = _may_go_on(now, status), self._how(now, status)
        if self._said != said:
            self._said, self._since = said, time.monotonic()
            self._console.stop()
            self._shape = (0, 0)  # the next start has a new bar
            more = "; waiting for its next start, Ctrl-C ends this" if waits else ""
            self._console.rows({LABELS[now]: said + more})
        if time.monotonic() - self._since < waits:
            return None
        return EXIT_CODES[now]

    def _how(self, now: str, status: dict[str, Any]) -> str:
        """How it ended, as its own terminal says it."""
        step, reason = status.get("step", 0), status.get("reason", "")
        if now == State.FINISHED:
            return f"{', '.join(self._texts(status))}, {status.get('epoch')} epochs, {step} steps"
        if now == State.FAILED:
            return str(reason)
        return f"{reason or 'its process is gone'}: saved at step {step}"


def _may_go_on(now: str, status: dict[str, Any]) -> float:
    """For how many seconds somebody may start the run again; 0 if nobody will."""
    if now == State.FINISHED or not status.get("restart", True):
        return 0.0
    if now == State.PREEMPTED:
        return 0.0 if status.get("reason") in BY_HAND else float("inf")
    return GONE_SECONDS


def state(run: Path, status: dict[str, Any]) -> str:
    """What status.json says; "killed" where it says running and its process is no more.

    Of a run on another host that cannot be known: its lock may not reach this one.
    """
    written = str(status.get("state", "?"))
    if written == State.RUNNING and not holder(run):
        try:
            return KILLED if f"host {socket.gethostname()}," in (run / "lock").read_text() else written
        except OSError:
            return written
    return written


class _Tail:
    """The lines of a file that grows; one that became shorter is taken up from its new end."""

    def __init__(self, file: Path) -> None:
        self._file, self._position = file, -1

    def read(self) -> list[dict[str, Any]]:
        """What is new since the last call; at first the last line of each kind alone."""
        try:
            with self._file.open("rb") as stream:
                start = stream.seek(max(0, min(self._position, stream.seek(0, os.SEEK_END))))
                data = stream.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        first, self._position = self._position < 0, start + len(whole)
        lines = [line for line in map(_object, whole.splitlines()) if "kind" in line]
        return list({line["kind"]: line for line in lines}.values()) if first else lines


def _object(line: bytes) -> dict[str, Any]:
    """A line of metrics.jsonl; {} for half of one, which was written while the file was cut."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
