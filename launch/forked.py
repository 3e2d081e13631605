"""Ranks that are forked from torchrun's process, which has imported what they need: they start in milliseconds.

torchrun starts each rank as a Python of its own, which imports torch for a second of CPU time, in every attempt. Here
its SubprocessHandler forks instead; everything else (rendezvous, monitoring, error files, logs, exit codes) stays
torchrun's. Ranks that cannot be forked are started torchrun's way, with a line that says why.
"""

import ctypes
import functools
import logging
import os
import select
import signal
import stat
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import torch
from torch.distributed.elastic.multiprocessing import api  # noqa: TID251
from torch.distributed.elastic.multiprocessing.subprocess_handler import SubprocessHandler  # noqa: TID251

from launch import title
from src import leaving, train
from src.errors import UserError

TRAIN = ("-u", "-m", "src.train")  # how torchrun starts a Python
NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"  # "1": torch counts GPUs without initialising CUDA
NOT_INITIALIZED = 3  # CUDA_ERROR_NOT_INITIALIZED
POLL_SECONDS = 0.01  # between two looks at a process where the kernel has no pidfd


class Process:
    """A forked process, with what torchrun uses of subprocess.Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None as long as it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(f"rank with pid {self.pid}", timeout)
            self._sleep(left)
        return code

    def _sleep(self, seconds: float) -> None:
        """Until the process has ended, for so long at most."""
        try:
            handle = os.pidfd_open(self.pid)
        except (OSError, AttributeError):
            time.sleep(min(seconds, POLL_SECONDS))
            return
        select.select([handle], [], [], seconds)
        os.close(handle)


class Handler(SubprocessHandler):
    """torchrun's handler of a rank's process, which forks it."""

    def _popen(self, args: tuple[str, ...], env: dict[str, str]) -> Any:
        outputs = [stream.fileno() if stream else None for stream in (self._stdout, self._stderr)]
        return Process(fork(functools.partial(become_rank, list(args), env, outputs)))


@contextmanager
def ranks() -> Iterator[None]:
    """Within it, torchrun forks its ranks. What does not fit is started torchrun's way, with a warning."""
    torchrun_s: Any = api
    start, warned, given = torchrun_s.get_subprocess_handler, False, os.environ.get(NVML_CHECK)

    def handler(entrypoint: str, args: tuple[str, ...], *rest: Any, **named: Any) -> Any:
        nonlocal warned
        if given is None:
            os.environ.pop(NVML_CHECK, None)  # not for the ranks: a driver that does not work would be taken for one
        if not (reason := why_not(entrypoint, args, named.get("numa_options"))):
            return Handler(entrypoint, args, *rest, **named)
        if not warned:
            print(f"warning: {reason}: every rank imports torch by itself", file=sys.stderr, flush=True)
        warned = True
        return start(entrypoint, args, *rest, **named)

    torchrun_s.get_subprocess_handler = handler
    os.environ.setdefault(NVML_CHECK, "1")  # torchrun asks for GPUs before it starts ranks
    try:
        yield
    finally:
        torchrun_s.get_subprocess_handler = start


def why_not(entrypoint: str, args: tuple[str, ...], numa: object) -> str:
    """Why a rank cannot be forked; '' if it can."""
    if entrypoint != sys.executable:
        return f"PYTHON_EXEC={entrypoint} is another Python"
    if args[: len(TRAIN)] != TRAIN:
        return f"{' '.join(args)[:60]} is not -m src.train"
    if numa is not None:
        return "--numa-binding starts ranks with numactl"
    return "CUDA is initialised in torchrun, and does not survive a fork" if cuda_is_initialised() else ""


def cuda_is_initialised() -> bool:
    """Whether this process has initialised CUDA's driver, which fails in a fork then."""
    try:
        driver = ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:  # nobody has loaded it
        return False
    return bool(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) != NOT_INITIALIZED)


def fork(run: Callable[[], NoReturn]) -> int:
    """Fork a process that runs `run`, without handlers of signals; returns its pid. Raises UserError."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # a handler here must not run there
    try:
        with warnings.catch_warnings():  # Python 3.12 warns of threads: those of torchrun hold no lock of a rank's
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            reset_signals(mask)
            run()
    except OSError as error:
        raise UserError(f"a rank cannot be started ({error.strerror})", fix="use fewer ranks, or ulimit -u") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def reset_signals(mask: Any) -> None:
    """In a fork: no handlers, as after an exec; what is ignored stays ignored."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def become_rank(words: list[str], env: dict[str, str], outputs: list[int | None]) -> NoReturn:
    """In a fork: be what `words`, a command line of Python, would start, and end with its exit code."""
    try:
        os.setsid()
        for number, output in enumerate(outputs, 1):
            if output is not None:
                os.dup2(output, number)
        close_files()
        os.environ.clear()
        os.environ.update(env)
        logging.disable(logging.NOTSET)
        if (generator := sys.modules.get("numpy.random")) is not None:
            generator.seed()
        torch.default_generator.seed()  # Python's own seeds itself anew
        sys.argv = [str(train.__file__), *words[words.index(TRAIN[-1]) + 1 :]]
        sys.modules["__main__"] = train
        title.show(words, f"python-rank{env['RANK']}")
        leaving.leave(leaving.exit_code(train.main))
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def close_files() -> None:
    """Close what an exec would: with torchrun's sockets open, other hosts would see its end only with the last rank's.

    Devices stay: a library that counts GPUs may have opened them.
    """
    for entry in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if entry > 2 and not stat.S_ISCHR(os.fstat(entry).st_mode):
                os.close(entry)
