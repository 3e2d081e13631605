"""A table of runs: python -m src.status [runs/] [--watch]"""

import argparse
import time
from pathlib import Path
from typing import Any

from src import lines
from src.config import UserError
from src.console import one_line_errors
from src.run import read_status

HEAD = ("run", "state", "step", "accuracy", "data", "ranks", "last event", "why")


def runs(root: Path) -> list[Path]:
    """The runs in a folder, or the folder itself where it is one, oldest first. Raises UserError."""
    if (root / "status.json").exists():
        return [root]
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; runs are in run.root= (runs/ by default)")
    return sorted((file.parent for file in root.glob("*/status.json")), key=lambda run: run.stat().st_ctime)


def row(run: Path) -> tuple[str, ...]:
    """What is known of a run."""
    status = read_status(run)
    events = list(lines.read(run / "events.jsonl"))
    tests = [line for line in lines.read(run / "metrics.jsonl") if line["kind"] == "test"]
    accuracy = f"{100 * tests[-1]['accuracy']:.2f} %" if tests else ""
    last = events[-1] if events else {}
    return (
        run.name,
        status.get("state", "?"),
        str(status.get("step", "")),
        accuracy,
        status.get("data", ""),
        str(status.get("world_size", "")),
        f"{last.get('event', '')} {last.get('time', '')[:19].replace('T', ' ')}".strip(),
        why(status, events),
    )


def why(status: dict[str, Any], events: list[dict[str, Any]]) -> str:
    """Why it is not running on from its start: its last stop, and how often it was resumed."""
    resumed = sum(event["event"] == "resume" for event in events)
    stops = [str(event.get("reason", "")) for event in events if event["event"] in ("stop", "failed")]
    reason = status.get("reason") or (stops[-1] if stops else "killed" if resumed else "")
    return f"{reason} (resumed {resumed} x)" if resumed else str(reason)


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as they must be."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m src.status", description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=Path("runs"))
    parser.add_argument("--watch", action="store_true", help="again every two seconds, until Ctrl-C")
    chosen = parser.parse_args()
    with one_line_errors():
        while True:
            found = [row(run) for run in runs(chosen.root)]
            text = table([HEAD, *found]) if found else f"{chosen.root}: no runs yet"
            print(("\x1b[H\x1b[2J" if chosen.watch else "") + text, flush=True)
            if not chosen.watch:
                return
            time.sleep(2)


if __name__ == "__main__":
    main()
