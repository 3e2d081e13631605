"""Standard output and error as a job needs them: whatever happens to a terminal, a pipe or a log ends no training.

A reader that has left, a terminal that has gone away, a log on a full disk: what cannot be written is dropped, since
metrics.jsonl is the record. A pipe that nobody reads and a terminal that is held (Ctrl-S) are not waited for. What the
encoding does not have is written as an escape. Closed descriptors are opened on /dev/null, so that no file is opened
under their numbers.
"""

import atexit
import io
import os
import select
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TextIO, cast

from src.errors import OutputLost

PATIENCE_SECONDS = 0.5  # a write is waited for so long, so that both streams stay in order; after that it goes on alone
LAST_SECONDS = 5.0  # at the end: without a byte written for so long, the rest is dropped
MOST_BYTES = 1 << 16  # kept for a reader that does not read


class Output(io.RawIOBase):
    """A descriptor that is written whole; raises OutputLost where it cannot be."""

    def __init__(self, handle: int) -> None:
        super().__init__()
        self._handle = handle
        self.name = str(handle)

    def fileno(self) -> int:
        """The descriptor."""
        return self._handle

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._handle)

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: "bytes | memoryview") -> int:  # type: ignore[override]
        """Write all of it; returns its length."""
        try:
            _write_all(self._handle, bytes(data))
        except OSError as error:
            raise OutputLost(error.errno, error.strerror) from None
        return len(data)


class Forgiving(Output):
    """The same, never failing and never waiting for long: a thread writes, and drops what it cannot write."""

    def __init__(self, handle: int) -> None:
        super().__init__(handle)
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._writer: threading.Thread | None = None
        self._alone = False  # after `settle`: no thread any more
        self.stuck = False  # nobody reads

    def write(self, data: "bytes | memoryview") -> int:  # type: ignore[override]
        """Hand it to the thread; returns its length."""
        whole = bytes(data)
        if self._alone or not self._has_writer():
            _write_or_drop(self._handle, whole)
            return len(whole)
        with self._changed:
            if sum(map(len, self._waiting)) + len(whole) <= MOST_BYTES or not self._waiting:
                self._waiting.append(whole)
            self._changed.notify_all()
            if not self.stuck:
                self.stuck = not self._changed.wait_for(lambda: not self._waiting, PATIENCE_SECONDS)
        return len(whole)

    def settle(self) -> None:
        """Before the end: let the thread finish, as long as somebody reads; what comes later is written directly."""
        with self._changed:
            left, since = len(self._waiting), time.monotonic()
            while left and time.monotonic() - since < LAST_SECONDS:
                self._changed.wait(0.1)
                if len(self._waiting) < left:
                    left, since = len(self._waiting), time.monotonic()
            if left:
                self._handle = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            self._alone = True

    def _has_writer(self) -> bool:
        """Whether there is a thread; starts it."""
        if self._writer is None:
            try:
                self._writer = threading.Thread(target=self._write_waiting, daemon=True, name=f"output {self._handle}")
                self._writer.start()
            except RuntimeError:  # no more threads
                self._writer = None
        return self._writer is not None

    def _write_waiting(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting[0]
            _write_or_drop(self._handle, data)
            with self._changed:
                self._waiting.popleft()
                self.stuck = False
                self._changed.notify_all()


def guard(lossy: bool = False) -> None:
    """Open descriptors 0 to 2 where they are closed, and take over standard output and error.

    Standard error never fails. Standard output does, with OutputLost, because it is what a command is for; `lossy`,
    for jobs and launchers, it does not either.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets this number, the lowest that is free
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = _taken(sys.stdout, 1, Forgiving if lossy else Output)
    sys.stderr = _taken(sys.stderr, 2, Forgiving)
    atexit.unregister(settle)
    atexit.register(settle)  # a daemon thread does not outlive the interpreter


def settle() -> None:
    """Before the process ends: let both streams write what they hold."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
            output = getattr(stream, "buffer", None)
            if isinstance(output, Forgiving):
                output.settle()
        except (OSError, ValueError):
            continue  # a stream of somebody else's, which is closed or lost


def is_stuck(stream: TextIO) -> bool:
    """Whether what is written to the stream waits for a reader."""
    return bool(getattr(getattr(stream, "buffer", None), "stuck", False))


def _taken(stream: TextIO | None, number: int, kind: type[Output]) -> TextIO:
    """A stream of that kind for the descriptor; the old one where it is of that kind, or somebody else's."""
    if stream is not None:
        try:
            if stream.fileno() != number or type(cast(object, stream.buffer)) is kind:
                return stream
        except (OSError, ValueError, AttributeError):  # not a file: a test's, a notebook's
            return stream
        with suppress(OSError):
            stream.flush()
    encoding = stream.encoding if stream is not None else "utf-8"
    return io.TextIOWrapper(kind(number), encoding, "backslashreplace", line_buffering=True)


def _write_all(handle: int, data: bytes) -> None:
    """Write to a descriptor that may be non-blocking: it shares that with whoever else has it."""
    while data:
        try:
            data = data[os.write(handle, data) :]
        except BlockingIOError:
            select.select([], [handle], [])


def _write_or_drop(handle: int, data: bytes) -> None:
    try:
        _write_all(handle, data)
    except OSError:
        return  # the reader has left, the terminal is gone, the disk is full: the record is elsewhere
