"""What an evaluation measures and is no single number, such as a confusion matrix: tables/NAME.json, the newest only.

metrics.jsonl stays small: a matrix of 1,000 classes in each of its lines would be 3 MB an epoch.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from src import files
from src.run.layout import TABLES


def write(path: Path, step: int, tables: dict[str, Any], warn: Callable[[str], None]) -> None:
    """Write each table of the evaluation at a step; a full disk costs a warning."""
    folder = path / TABLES
    try:
        files.make_folder(folder)
        for name, values in tables.items():
            files.write_text(folder / f"{name}.json", json.dumps({"step": step, "values": values}) + "\n")
    except OSError as error:
        warn(f"{folder}: {files.reason(error)}; training goes on")


def read(path: Path, name: str) -> Any:
    """The newest values of a table, None if there is none."""
    return _content(path / TABLES / f"{name}.json").get("values")


def forget_after(path: Path, step: int) -> None:
    """Remove what was measured after the step that training goes on from, or before a run that begins anew."""
    for file in (path / TABLES).glob("*.json"):
        if _content(file).get("step", 0) > step:
            with suppress(OSError):  # the next evaluation writes it anew
                file.unlink()


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
