"""When rank 0 wants to save beside the schedule: a file SAVE in the run's folder, checkpoint.every_minutes.

Rank 0 alone asks the disk and the clock, so that no other rank can disagree; its vote, which travels beside the
gradients, tells the others, and all save after the same step.
"""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

RETRY_SECONDS = 30.0  # after a save that failed: SAVE is still there

Identity = tuple[int, int, int]


class Requests:
    """`due` says whether a save is wanted now. `look` is called now and then by another thread than the others."""

    def __init__(self, file: Path, every_minutes: float, rank0: bool) -> None:
        self._file, self._seconds, self._rank0 = file, 60 * every_minutes, rank0
        self._lock = threading.Lock()
        self._last: float | None = None  # the newest save, or the first look
        self._taken: Identity | None = None  # the file that the newest save is for
        self.due = False

    def look(self) -> None:
        """Ask the disk and the clock."""
        if not self._rank0:
            return
        found = self._identity()
        with self._lock:
            now = time.monotonic()
            self._last = now if self._last is None else self._last
            since = now - self._last
            asked = found is not None and (found != self._taken or since >= RETRY_SECONDS)
            self.due = asked or 0 < self._seconds <= since

    def take(self) -> Identity | None:
        """A copy of the state is made now; returns the file that asked for it, for `done`."""
        if not self._rank0:
            return None
        found = self._identity()
        with self._lock:
            self._last, self._taken, self.due = time.monotonic(), found, False
        return found

    def done(self, taken: Identity | None) -> None:
        """The copy is written: remove the file, unless it is a newer one."""
        with suppress(OSError):
            if taken is not None and self._identity() == taken:
                self._file.unlink()

    def _identity(self) -> Identity | None:
        """Which file it is, None if there is none or the disk does not answer."""
        try:
            found = os.stat(self._file)
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns
