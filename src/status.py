"""A table of runs: python -m src.status [runs/] [--watch]

With --follow and the folder of one run: what the run's own terminal shows, until it has ended. It goes on through
requeues and restarts. Exit code 0: finished, 1: failed, 3: stopped by its user.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

if not __package__:  # `python src/status.py`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import files, follow, leaving
from src.console import one_line_errors
from src.errors import UserError
from src.run import jsonl, layout, results
from src.run.layout import read_status
from src.schema import TEST, VALIDATION

HEAD = ("run", "state", "step", "result", "data", "ranks", "last event", "why")
WATCH_SECONDS = 2.0
WHY_LETTERS = 80
ENDS = ("stop", "failed", "finish")  # events; an attempt without one was killed


def runs(root: Path) -> list[Path]:
    """The runs in a folder, or the folder itself where it is one, oldest first. Raises UserError."""
    try:
        if (root / "status.json").exists():
            return [root]
        if not root.is_dir():
            raise UserError(f"{root}: no such folder", fix="runs are in run.root= (runs/ by default)")
        return sorted((file.parent for file in root.glob("*/status.json")), key=lambda run: run.stat().st_ctime)
    except OSError as error:
        raise UserError(f"{root}: cannot be read ({files.reason(error)})", fix=files.advice(error)) from None


def row(run: Path) -> tuple[str, ...]:
    """What is known of a run, however damaged its files are."""
    status = read_status(run)
    try:
        events = [event for event in jsonl.read(run / layout.EVENTS) if "event" in event]
        newest = _last(run / layout.METRICS)
        test = _last(run / layout.METRICS, TEST) or _last(run / layout.METRICS, VALIDATION)
        result = _result(run, test)
    except (OSError, ValueError, TypeError) as error:
        return (run.name, "damaged", "", "", "", "", "", f"its files cannot be read ({error})"[:WHY_LETTERS])
    last = events[-1] if events else {}
    return (
        run.name,
        follow.state(run, status),
        str(max(status.get("step", 0), newest.get("step", 0))),
        result,
        status.get("data", ""),
        str(status.get("world_size", "")),
        f"{last.get('event', '')} {last.get('time', '')[:19].replace('T', ' ')}".strip(),
        why(status, events),
    )


def _result(run: Path, test: dict[str, Any]) -> str:
    """The metric that the model's file names first, of the newest evaluation: `74.33 %`, or its value."""
    described = results.describe(run, test)
    return described.text(described.names[0], test) if test and described.names else ""


def _last(file: Path, kind: str = "") -> dict[str, Any]:
    """The last whole line, of that kind, {} if there is none; the others are not read as JSON."""
    whole = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    mark = f'"kind": "{kind}"'.encode() if kind else b""
    last: Any = next((json.loads(line) for line in reversed(whole) if mark in line), {})
    if not isinstance(last, dict):
        raise ValueError(f"{file.name} holds no object")
    return dict(last)


def why(status: dict[str, Any], events: list[dict[str, Any]]) -> str:
    """Why it stopped, or what ended the attempt before its last resume, and how often it was resumed."""
    resumes = [at for at, event in enumerate(events) if event["event"] == "resume"]
    reason = status.get("reason") or _end(events[: resumes[-1]] if resumes else events, resumed=bool(resumes))
    reason = " ".join(str(reason).split())
    reason = reason if len(reason) <= WHY_LETTERS else f"{reason[: WHY_LETTERS - 3]}..."
    return f"{reason} (resumed {len(resumes)} x)" if resumes else reason


def _end(events: list[dict[str, Any]], resumed: bool) -> str:
    """What ended the last attempt of these events; without an end it was killed, if it was `resumed` later."""
    marks = [event for event in events if event["event"] in (*ENDS, "start", "resume")]
    last = marks[-1] if marks else {}
    if last.get("event") == "finish":
        return "prolonged" if resumed else ""
    if last.get("event") in ENDS:
        return str(last.get("reason", ""))
    return "killed" if resumed else ""


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as they must be."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def main() -> None:
    """The command line."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m src.status", description=__doc__, formatter_class=raw)
    parser.add_argument("root", nargs="?", type=files.path, default=Path("runs"), help="folder of runs, or one run")
    parser.add_argument("--watch", action="store_true", help="again every two seconds, until Ctrl-C")
    parser.add_argument("--follow", action="store_true", help="show one run as its own terminal does")
    chosen = parser.parse_args()
    with one_line_errors():
        if chosen.follow:
            raise SystemExit(follow.follow(chosen.root))
        while True:
            rows = [row(run) for run in runs(chosen.root)]
            text = table([HEAD, *rows]) if rows else f"{chosen.root}: no runs yet"
            print(("\x1b[H\x1b[2J" if chosen.watch and sys.stdout.isatty() else "") + text, flush=True)
            if not chosen.watch:
                return
            time.sleep(WATCH_SECONDS)


if __name__ == "__main__":
    leaving.run_and_leave(main)
