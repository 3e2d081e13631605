"""How every process of this project ends: its exit code, its output written, nothing left in TMPDIR."""

import atexit
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from src import streams, temporary
from src.console import one_line_errors

LEAVE_SECONDS = 5.0  # for what libraries have to do at the end: W&B's goes on until its server answers


def run_and_leave(main: Callable[[], None]) -> None:
    """Run `main` and end the process at once with its exit code.

    Taking torch apart would cost 0.5 s a rank, and abort now and then where a process group was left open. Under a
    profiler, a debugger or whatever else goes on when `main` is done, the process ends as any other one does.
    """
    streams.guard()
    if somebody_watches(sys._getframe(1)):
        main()
    else:
        leave(exit_code(main))


def exit_code(main: Callable[[], None]) -> int:
    """Run `main` and print what ends it; returns its exit code."""
    code: object = 0
    try:
        with one_line_errors():  # for the flush
            main()
            sys.stdout.flush()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    if isinstance(code, int):
        return code
    print(code, file=sys.stderr)
    return 1


def somebody_watches(frame: FrameType | None) -> bool:
    """Whether this process is a profiler's, a coverage run's, a debugger's or another program's, or ends in a prompt.

    `frame` is the command's module; below it are runpy's frames alone, where Python was started with -m.
    """
    callers = frame.f_back if frame else None
    while callers is not None and callers.f_globals.get("__name__") == "runpy":
        callers = callers.f_back
    monitoring = getattr(sys, "monitoring", None)  # Python 3.12: coverage, cProfile and debuggers may use it instead
    tools = [monitoring.get_tool(number) for number in range(6)] if monitoring else []
    watched = sys.getprofile() or sys.gettrace() or threading.getprofile() or threading.gettrace()
    return bool(callers or watched or any(tools) or sys.flags.inspect or os.environ.get("PYTHONINSPECT"))


def leave(code: int) -> NoReturn:
    """End the process at once: without taking torch apart, but with what was registered for the end of Python.

    Libraries remove their temporary files there, and end their processes. What does not come to its end is left.
    """
    timer = threading.Timer(LEAVE_SECONDS, end_now, [code])
    timer.daemon = True
    with suppress(RuntimeError):  # no more threads
        timer.start()
    atexit._run_exitfuncs()
    end_now(code)


def end_now(code: int) -> NoReturn:
    """End the process, with its output written and its temporary folder removed."""
    try:
        streams.settle()
        temporary.end()
    finally:
        os._exit(code)
