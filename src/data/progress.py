"""How far the conversion of a data set is: a bar on a terminal, a line now and then in a log."""

import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta

from src.bar import Bar, has_bar

SECONDS = 5.0  # between two lines


class Counted:
    """Counts what is done of `total`; `report` gets the lines where standard error is no terminal.

    May be called by several threads.
    """

    def __init__(self, what: str, total: int, report: Callable[[str], None], done: int = 0) -> None:
        self._what, self._total, self._report = what, total, report
        self._done = self._before = done
        self._began = self._said = time.monotonic()
        self._bar = Bar(sys.stderr) if has_bar(sys.stderr) else None
        self._lock = threading.Lock()

    def __call__(self, count: int = 1) -> None:
        """So many more are done."""
        with self._lock:
            self._done += count
            if self._bar is not None:
                self._bar.draw(self._text(), self._done / max(1, self._total))
            elif time.monotonic() - self._said > SECONDS:
                self._said = time.monotonic()
                self._report(self._text())

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.clear()

    def _text(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-6)
        rate = (self._done - self._before) / seconds
        left = timedelta(seconds=round((self._total - self._done) / rate)) if rate else "?"
        return f"{self._what}: {self._done:,} of {self._total:,}, {rate:,.0f}/s, {left} left"
