"""Everything that can ask the job to stop, turned into one flag; the ranks agree on it with the gradients."""

import ctypes
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
LOOK_SECONDS = 0.5  # between looks at the STOP file and the clock
SAME_SECONDS = 1.0  # torchrun repeats a terminal's Ctrl-C; a second one from the user comes later
DEAF_SECONDS = 20.0  # torchrun and Slurm kill 30 s after SIGTERM; a rank stuck in a collective leaves before
SLURM_MARGIN_SECONDS = 30.0
OWN_SECONDS = 10.0  # torchrun looks every 0.1 s whether a host joins or leaves
ELASTIC = "ELASTIC"  # launch.torchrun sets it where the number of hosts may change
MEET_AGAIN = 75  # exit code of a rank that torchrun must start again
PR_SET_PDEATHSIG = 1


def nothing_to_save_yet() -> None:
    """Until `Interrupts` listens, a signal ends the process at once, without a traceback; so does torchrun's death.

    The kernel is asked for SIGTERM when torchrun dies, even by kill -9 (Linux). To be called before torch is
    imported, which takes seconds: whom torchrun leaves behind before that would wait minutes for its store.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Interrupts:
    """`wanted` says why this rank should stop, '' as long as it should not.

    Handlers only exist so that a signal does not kill: a thread reads the signals' numbers from a pipe that
    the C level writes, so it hears them even while the main thread sits in a collective.
    """

    def __init__(self, stop_file: Path, max_minutes: float) -> None:
        self.wanted = ""
        self._stop_file = stop_file
        self._deadline = _deadline(max_minutes)
        self._heard = 0.0
        self._steps = 0
        self._leaving = False
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
        return self.wanted != ""

    def leaving(self) -> None:
        """All have agreed and are saving: nobody is deaf, only busy."""
        self._leaving = True

    def left_alone(self, reason: str) -> bool:
        """Whether the others were told to leave and this rank was not, although it waited for that.

        Where hosts come and go, each host's torchrun ends its own ranks to let them meet anew, or one host leaves
        for good. A rank that left on its own with 0 would be finished in its torchrun's eyes.
        """
        if not os.environ.get(ELASTIC) or not reason.startswith("SIG"):
            return False
        deadline = time.monotonic() + OWN_SECONDS
        while not self._heard and time.monotonic() < deadline:
            time.sleep(0.05)
        return not self._heard

    def _watch(self) -> None:
        while True:
            ready, _, _ = select.select([self._pipe], [], [], LOOK_SECONDS)
            for number in os.read(self._pipe, 64) if ready else b"":
                self._signal(number)
            if not self.wanted:
                self.wanted = self._other_reason()

    def _signal(self, number: int) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self._heard and now - self._heard > SAME_SECONDS:
            os._exit(128 + signal.SIGINT)
        if number in SIGNALS and not self._heard:
            self._heard = now
            self.wanted = self.wanted or signal.Signals(number).name
            if number in (signal.SIGTERM, signal.SIGINT):
                threading.Thread(target=self._leave_if_deaf, daemon=True).start()

    def _leave_if_deaf(self) -> None:
        """End the process if its main thread makes no step for DEAF_SECONDS and nobody saves."""
        steps, since = self._steps, time.monotonic()
        while time.monotonic() - since < DEAF_SECONDS:
            time.sleep(LOOK_SECONDS)
            if self._steps != steps:
                steps, since = self._steps, time.monotonic()
        if not self._leaving:
            print(f"{self.wanted}: no step for {DEAF_SECONDS:.0f} s, leaving", file=sys.stderr, flush=True)
            os._exit(128 + signal.SIGTERM)

    def _other_reason(self) -> str:
        if self._stop_file.exists():
            return f"STOP file{': restart' if _reads(self._stop_file) == 'restart' else ''}"
        if time.time() > self._deadline[0]:
            return self._deadline[1]
        return ""


def _nothing(number: int, frame: object) -> None:
    """Python needs a handler, or the signal kills; the pipe tells the thread."""


def _reads(file: Path) -> str:
    """What the file says, '' if it cannot be read."""
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _deadline(max_minutes: float) -> tuple[float, str]:
    """When to stop (seconds since 1970), and what to say then."""
    own = time.time() + max_minutes * 60 if max_minutes else float("inf")
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    slurm = float(end) - SLURM_MARGIN_SECONDS if end.isdigit() else float("inf")
    return min((own, "train.max_minutes"), (slurm, "Slurm's time limit"))
