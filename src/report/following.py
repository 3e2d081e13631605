"""The page of a run that goes on, written again and again from its folder: python -m src.report --follow RUN"""

import time
from pathlib import Path

from src import follow
from src.report import page, standing
from src.report.pictures import Sources
from src.run import layout
from src.run.layout import ExitCode

PAGE_SECONDS = 5.0  # between two pages, for the reader's browser too
SHARE = 10  # a page of a long run takes a second: of ten, to read its lines


class Page:
    """The page of a run that goes on: a browser loads it again by itself. The weights are shown once it has ended."""

    def __init__(self, run: Path, file: Path) -> None:
        self._run, self._file = run, file
        self._shown: object = None
        self._next = 0.0

    def look(self) -> None:
        """Write the page where the run's files say something new. Raises UserError."""
        began, (stands, size) = time.monotonic(), self._found()
        if began < self._next or self._shown == (stands, size):
            return
        self._shown = stands, size
        self.write(PAGE_SECONDS)
        now = time.monotonic()
        self._next = now + max(PAGE_SECONDS, SHARE * (now - began))

    def write(self, reload_seconds: float = 0.0) -> None:
        """Write it without pictures, which take the weights. Raises UserError."""
        missing = f"The run goes on; `python -m src.report {self._run}` draws them."
        runs = [page.one(self._run, layout.load_settings(self._run), Sources(missing=missing))]
        page.write_for_user(self._file, runs, reload_seconds)

    def _found(self) -> tuple[object, int]:
        metrics = self._run / layout.METRICS
        return standing.of(self._run), metrics.stat().st_size if metrics.exists() else 0


def follow_page(run: Path, file: Path | None) -> ExitCode:
    """Show the run as src.status --follow does, and write its page, until it has ended; returns how.

    Raises UserError.
    """
    file = file or run / page.NAME
    print(f"page     {file}", flush=True)
    live = Page(run, file)
    try:
        code = follow.follow(run, live.look)
    except (KeyboardInterrupt, SystemExit):
        live.write()  # nobody writes it again: a browser need not load it again
        raise
    page.report([run], file)
    return code
