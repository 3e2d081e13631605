"""Everything that can ask the job to stop, or to save, turned into a vote; the ranks agree on it with the gradients."""

import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from src import files, leaving, temporary
from src.gradients import votes
from src.launchers import slurm
from src.run.layout import ELASTIC, RESTART, StopReason
from src.run.requests import Requests

NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1", "SIGUSR2")
SIGNALS = {signal.Signals[name]: StopReason[name] for name in NAMES}
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)  # torchrun passes these on, then it kills
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)  # of a time limit; nodes ignore them until there is a handler
LOOK_SECONDS = 0.5  # between looks at the files STOP and SAVE and at the clock
REPEAT_SECONDS = 1.0  # torchrun repeats a terminal's Ctrl-C; a second one from the user comes later
STUCK_SECONDS = 20.0  # torchrun and Slurm kill 30 s after SIGTERM; a rank stuck in a collective leaves before
SLURM_MARGIN_SECONDS = 30.0
AGENT_SECONDS = 10.0  # torchrun looks every 0.1 s whether a host joins or leaves


def exit_on_signal(with_parent: bool = False) -> None:
    """Until `Interrupts` listens, a signal ends the process at once, without a traceback; so does torchrun's death.

    Nothing is left in TMPDIR (src.temporary). To be called before torch is imported, which takes seconds: ranks that
    torchrun orphans before that would wait minutes for its store. By default no other process's death counts: a shell
    may leave a job behind. With `with_parent` it is the parent's.
    """
    listener = _listen()
    temporary.begin()
    if process := os.getppid() if with_parent else _torchrun():
        listener.follow(process)


def _torchrun() -> int:
    """The process of torchrun that started this rank, perhaps through a shell; 0 if none did.

    It is the nearest one above that does not have the variable that it gave to this rank; a shell in between has it,
    and a shell that inherits it from another job, and leaves, is none of it.
    """
    name = next((name for name in ("TORCHELASTIC_ERROR_FILE", "TORCHELASTIC_RUN_ID") if name in os.environ), "")
    given, process = os.fsencode(f"{name}={os.environ.get(name, '')}"), os.getppid() if name else 0
    try:
        while process and given in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
            process = int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:  # another user's: no torchrun of this job
        return 0
    return process


class _Listener:
    """A thread that reads the numbers of signals from a pipe that the C level writes.

    Handlers only exist so that a signal does not kill: the thread receives them even while the main thread sits in a
    collective. `react` is given each number, `look` is called now and then.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.react: Callable[[int], None] = _die
        self.look: Callable[[], None] = lambda: None
        self._reading, writing = os.pipe()
        self._followed = 0
        self._ended: int | None = None  # a descriptor that can be read when that process has ended
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in SIGNALS:
            if not (number in (*WARNINGS, signal.SIGHUP) and signal.getsignal(number) is signal.SIG_IGN):
                signal.signal(number, _nothing)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # printing from the background must not stop a training
        threading.Thread(target=self._watch, daemon=True, name="interrupts").start()

    def follow(self, process: int) -> None:
        """Send this process SIGTERM when that one, not only the thread that started it, has ended."""
        self._followed = process
        with suppress(OSError, AttributeError):  # an old kernel: then `_watch` asks whether it is there
            self._ended = os.pidfd_open(process)

    def _watch(self) -> None:
        while True:
            handles = [self._reading] + ([self._ended] if self._ended is not None else [])
            ready, _, _ = select.select(handles, [], [], LOOK_SECONDS)
            for number in os.read(self._reading, 64) if self._reading in ready else b"":
                self.react(number)
            if self._followed and (self._ended in ready or not _is_there(self._followed)):
                self._followed, self._ended = 0, None
                os.kill(os.getpid(), signal.SIGTERM)
            self.look()


def _is_there(process: int) -> bool:
    with suppress(PermissionError):  # another user's
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True


_listener: _Listener | None = None


def _listen() -> _Listener:
    """This process's listener; a fork has none of its parent's threads."""
    global _listener
    if _listener is None or _listener.pid != os.getpid():
        _listener = _Listener()
    return _listener


def _die(number: int) -> None:
    """End the process by the signal, as if it had no handler, but leave nothing in TMPDIR."""
    if number in SIGNALS:
        temporary.end()
        ctypes.CDLL(None).signal(number, None)  # None is SIG_DFL; Python's own function is for the main thread
        os.kill(os.getpid(), number)


class Interrupts:
    """`reason` says why this rank should stop, None as long as it should not. `saves` are rank 0's wishes to save.

    `busy` says whether this rank writes something beside its steps, which it is not to be ended in.
    """

    def __init__(
        self,
        stop_file: Path,
        max_minutes: float,
        saves: Requests | None = None,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.reason: StopReason | None = None
        self._stop_file, self._saves, self._busy = stop_file, saves, busy
        self._deadline, self._deadline_reason = _deadline(max_minutes)
        self._signalled = 0.0
        self._steps = 0
        self._patient = True  # until the first step: a start may take long
        listener = _listen()
        listener.react, listener.look = self._signal, self._look
        for number in SIGNALS:
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup's stays ignored
                signal.signal(number, _nothing)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # launch.torchrun blocks what came too early

    def vote(self) -> float:
        """Whether this rank wants to stop, or to save. Called once a step; costs nothing."""
        self._steps += 1
        self._patient = False
        save = votes.SAVE if self._saves is not None and self._saves.due else 0.0
        return save if self.reason is None else save + votes.STOP

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

    def _look(self) -> None:
        if self._saves is not None and self._steps:
            self._saves.look()
        if self.reason is None:
            self.reason = self._other_reason()

    def _signal(self, number: int) -> None:
        now = time.monotonic()
        again = number in (signal.SIGINT, signal.SIGQUIT) and self._signalled
        if again and now - self._signalled > REPEAT_SECONDS:
            leaving.end_now(128 + number)
        if number in SIGNALS and not self._signalled:
            self._signalled = now
            self.reason = self.reason or SIGNALS[signal.Signals(number)]
            if number in ENDING:
                threading.Thread(target=self._leave_if_stuck, daemon=True).start()

    def _leave_if_stuck(self) -> None:
        """End the process if its main thread makes no step for STUCK_SECONDS and nothing that may take long."""
        steps, since = self._steps, time.monotonic()
        while time.monotonic() - since < STUCK_SECONDS:
            time.sleep(LOOK_SECONDS)
            if self._steps != steps or self._patient or self._busy():
                steps, since = self._steps, time.monotonic()
        print(f"{self.reason}: no step for {STUCK_SECONDS:.0f} s, leaving", file=sys.stderr, flush=True)
        leaving.end_now(128 + signal.SIGTERM)

    def _other_reason(self) -> StopReason | None:
        if self._steps and files.exists(self._stop_file):  # before the first step it is an earlier job's
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
