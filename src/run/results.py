"""What a run measured on the test set, read back without torch and without the model's file.

The lines of metrics.jsonl hold the values by name; tables/metrics.json says how to read them.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from src.run import tables

DESCRIPTION = "metrics"  # tables/metrics.json
AVERAGED = "average_"  # in front of what the averaged weights measured
POSITION = ("kind", "epoch", "step", "samples_seen")  # of a line of metrics.jsonl, beside what was measured


@dataclass(frozen=True)
class Description:
    """The metrics in order, the one that is displayed first in front.

    `shares` has for each metric that divides two whole numbers the names of both sums; `best` is the metric that
    decides which weights are the best, '' where that is not known; `divisors` what each metric is divided by.
    """

    names: list[str]
    shares: dict[str, list[str]]
    best: str = ""
    higher_is_better: bool = True
    divisors: dict[str, str] = field(default_factory=dict)

    def value(self, name: str, line: dict[str, Any]) -> float | None:
        """The metric in a line of metrics.jsonl, None where it is not there or not finite."""
        value = line.get(name)
        return value if isinstance(value, int | float) and math.isfinite(value) else None

    def text(self, name: str, line: dict[str, Any]) -> str:
        """The metric in a line of metrics.jsonl, for people: `74.33 %`, `0.8512`."""
        value = self.value(name, line)
        if value is None:
            return "not finite"
        return f"{100 * value:.2f} %" if name in self.shares else f"{value:.4g}"

    def best_of(self, lines: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The first of the lines with the best value, None where no line has one."""
        values = [self.value(self.best, line) for line in lines]
        known = [value for value in values if value is not None]
        if not known:
            return None
        return lines[values.index(max(known) if self.higher_is_better else min(known))]


def describe(path: Path, line: dict[str, Any]) -> Description:
    """How to read the test lines of a run; of a run without tables/metrics.json what one line shows by itself."""
    content = tables.read(path, DESCRIPTION)
    try:
        return Description(**content)
    except TypeError:
        return Description([name for name, value in line.items() if isinstance(value, float)], {})


def averaged(line: dict[str, Any]) -> dict[str, Any]:
    """What the averaged weights measured in a line of metrics.jsonl, by the names of the metrics; {} for none."""
    return {name.removeprefix(AVERAGED): value for name, value in line.items() if name.startswith(AVERAGED)}


def square(table: Any) -> list[list[int]]:
    """The table, if it is a square of whole numbers such as a confusion matrix; [] for anything else."""
    rows = table if isinstance(table, list) and all(isinstance(row, list) for row in table) else []
    fits = all(len(row) == len(rows) and all(isinstance(count, int) for count in row) for row in rows)
    return rows if fits else []
