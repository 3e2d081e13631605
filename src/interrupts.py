"""Everything that can ask the job to stop, turned into one flag; the ranks agree on it with the gradients."""

import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src import files
from src.launchers import slurm
from src.run.layout import ELASTIC, RESTART, StopReason

SIGNALS = {signal.Signals[name]: StopReason[name] for name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")}
LOOK_SECONDS = 0.5  # between looks at the STOP file and the clock
REPEAT_SECONDS = 1.0  # torchrun repeats a terminal's Ctrl-C; a second one from the user comes later
STUCK_SECONDS = 20.0  # torchrun and Slurm kill 30 s after SIGTERM; a rank stuck in a collective leaves before
SLURM_MARGIN_SECONDS = 30.0
AGENT_SECONDS = 10.0  # torchrun looks every 0.1 s whether a host joins or leaves
PR_SET_PDEATHSIG = 1


def exit_on_signal() -> None:
    """Until `Interrupts` listens, a signal ends the process at once, without a traceback; so does torchrun's death.

    The kernel is asked for SIGTERM when torchrun dies, even by kill -9 (Linux). To be called before torch is
    imported, which takes seconds: ranks that torchrun orphans before that would wait minutes for its store.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Interrupts:
    """`reason` says why this rank should stop, None as long as it should not.

    Handlers only exist so that a signal does not kill: a thread reads the signals' numbers from a pipe that
    the C level writes, so it receives them even while the main thread sits in a collective.
    """

    def __init__(self, stop_file: Path, max_minutes: float) -> None:
        self.reason: StopReason | None = None
        self._stop_file = stop_file
        self._deadline, self._deadline_reason = _deadline(max_minutes)
        self._signalled = 0.0
        self._steps = 0
        self._patient = True  # until the first step: a start may take long
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        self._pipe = reading
        for number in SIGNALS:
            signal.signal(number, _nothing)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # launch.torchrun blocks what came too early
        threading.Thread(target=self._watch, daemon=True, name="interrupts").start()

    def vote(self) -> bool:
        """Whether this rank wants to stop. Called once a step; costs nothing."""
        self._steps += 1
        self._patient = False
        return self.reason is not None

    @contextmanager
    def patience(self) -> Iterator[None]:
        """Around what may take long without a step: an evaluation, a save, the wait for rank 0's."""
        self._patient = True
        try:
            yield
        finally:
            self._steps += 1
            self._patient = False

    def stopped_by_other_host(self, reason: StopReason) -> bool:
        """Whether other ranks were signalled and this one was not, although it waited for that.

        Where hosts come and go, each host's torchrun ends its ranks so that all meet again, or one host leaves for
        good. torchrun takes a rank that leaves with 0 for finished, and does not start it again.
        """
        if not os.environ.get(ELASTIC) or not reason.is_signal:
            return False
        deadline = time.monotonic() + AGENT_SECONDS
        while not self._signalled and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self._signalled

    def _watch(self) -> None:
        while True:
            ready, _, _ = select.select([self._pipe], [], [], LOOK_SECONDS)
            for number in os.read(self._pipe, 64) if ready else b"":
                self._signal(number)
            if self.reason is None:
                self.reason = self._other_reason()

    def _signal(self, number: int) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self._signalled and now - self._signalled > REPEAT_SECONDS:
            os._exit(128 + signal.SIGINT)
        if number in SIGNALS and not self._signalled:
            self._signalled = now
            self.reason = self.reason or SIGNALS[signal.Signals(number)]
            if number in (signal.SIGTERM, signal.SIGINT):
                threading.Thread(target=self._leave_if_stuck, daemon=True).start()

    def _leave_if_stuck(self) -> None:
        """End the process if its main thread makes no step for STUCK_SECONDS and nothing that may take long."""
        steps, since = self._steps, time.monotonic()
        while time.monotonic() - since < STUCK_SECONDS:
            time.sleep(LOOK_SECONDS)
            if self._steps != steps or self._patient:
                steps, since = self._steps, time.monotonic()
        print(f"{self.reason}: no step for {STUCK_SECONDS:.0f} s, leaving", file=sys.stderr, flush=True)
        os._exit(128 + signal.SIGTERM)

    def _other_reason(self) -> StopReason | None:
        if files.exists(self._stop_file):
            return StopReason.STOP_FILE_RESTART if _text(self._stop_file) == RESTART else StopReason.STOP_FILE
        return self._deadline_reason if time.monotonic() > self._deadline else None


def _nothing(number: int, frame: object) -> None:
    """Python needs a handler, or the signal kills; the pipe tells the thread."""


def _text(file: Path) -> str:
    """What the file says, '' if it cannot be read."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _deadline(max_minutes: float) -> tuple[float, StopReason]:
    """When to stop (on the monotonic clock: the wall clock may jump), and the reason then."""
    now = time.monotonic()
    mine = now + max_minutes * 60 if max_minutes else float("inf")
    end = now + slurm.end_time() - time.time() - SLURM_MARGIN_SECONDS
    return min((mine, StopReason.MAX_MINUTES), (end, StopReason.SLURM_TIME_LIMIT))
