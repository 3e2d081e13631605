"""What an evaluation found: sums over the samples, what is divided by what, and how it is shown."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from src.models import COUNT

Number = int | float
RAW, AVERAGE = "raw", "average"  # the weights that are trained, and those of src.averages


@dataclass(frozen=True)
class Metrics:
    """What the model's `measure` summed over `count` samples.

    `divisions` has for each metric the sum and its divisor, the one that is shown first in front; `tables` what is
    no single number, such as a confusion matrix. `best` is the metric that decides. A metric whose divisor is 0 is
    left out everywhere. `averaged` is what the averaged weights measure, where there are any.
    """

    count: int
    sums: dict[str, Number]
    divisions: dict[str, tuple[str, str]]
    best: str
    higher_is_better: bool
    tables: dict[str, Any] = field(default_factory=dict)
    averaged: "Metrics | None" = None

    def _pair(self, name: str) -> tuple[Number, Number]:
        above, below = self.divisions[name]
        known = {COUNT: self.count} | self.sums
        return known[above], known[below]

    @property
    def values(self) -> dict[str, float]:
        """Each metric's value, of those whose divisor is not 0."""
        pairs = {name: self._pair(name) for name in self.divisions}
        return {name: above / below for name, (above, below) in pairs.items() if below}

    @property
    def deciding(self) -> float:
        """The value that decides which weights are the best: that of the averaged ones, where they are better.

        Not a number where its divisor is 0.
        """
        chosen = self.averaged if self.averaged and self.best_weights == AVERAGE else self
        return chosen.values.get(self.best, math.nan)

    @property
    def best_weights(self) -> str:
        """Which weights are better: "raw" or "average"."""
        if self.averaged is None:
            return RAW
        raw, average = (one.values.get(self.best, math.nan) for one in (self, self.averaged))
        return AVERAGE if (average > raw if self.higher_is_better else average < raw) else RAW

    def without_tables(self) -> "Metrics":
        """The numbers alone: a table may have millions of entries."""
        averaged = self.averaged.without_tables() if self.averaged else None
        return replace(self, tables={}, averaged=averaged)

    def texts(self) -> list[str]:
        """Each metric for people: 7433/10000 = 74.33 % where both are whole numbers, else its name and its value."""
        texts: list[str] = []
        for name, value in self.values.items():
            above, below = self._pair(name)
            label = f"{name} " if texts else ""
            if isinstance(above, int) and isinstance(below, int):
                texts.append(f"{label}{above}/{below} = {100 * value:.2f} %")
            else:
                texts.append(f"{name} {value:.4f}")
        return texts

    def __str__(self) -> str:
        average = f"  (average: {self.averaged})" if self.averaged else ""
        return "  ".join(self.texts()) + average

    @property
    def description(self) -> dict[str, Any]:
        """How to read `as_dict` without the model's file: `src.run.results.Description`."""
        names = list(self.values)
        whole = [name for name in names if all(isinstance(number, int) for number in self._pair(name))]
        return {
            "names": names,
            "shares": {name: list(self.divisions[name]) for name in whole},
            "best": self.best,
            "higher_is_better": self.higher_is_better,
            "divisors": {name: self.divisions[name][1] for name in names},
        }

    def as_dict(self) -> dict[str, Number]:
        """For metrics.jsonl and status.json: the metrics, the whole sums and the number of samples.

        What the averaged weights measure has `average_` in front.
        """
        whole = {name: value for name, value in self.sums.items() if isinstance(value, int)}
        averaged = self.averaged.values if self.averaged else {}
        return whole | {COUNT: self.count} | self.values | {f"{AVERAGE}_{key}": averaged[key] for key in averaged}
