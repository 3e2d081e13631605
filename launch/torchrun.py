"""torchrun with six changes: python -m launch.torchrun [--by-status] [torchrun's options] -m src.train ...

- Ranks are forked from this process, which imports torch once (launch.forked).
- SIGUSR1 and SIGUSR2, which warn the ranks of a time limit, do not kill torchrun.
- torchrun's temporary folder is removed.
- A failed job prints one line instead of torchrun's 45, and Ctrl-C no traceback.
- --standalone uses this host's loopback address, of IPv6 where there is no other, and waits for nobody.
- Under nohup it goes on when the terminal is closed.

With --by-status the exit code follows status.json (launch.job.verdict: 0 only if the run is finished, 75 to start
again), for launchers that read only exit codes.
"""

import logging
import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else Ctrl-C prints where the import of torch was
if not __package__:  # `python launch/torchrun.py`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch import job
from src import config, leaving, limits, streams, temporary, train
from src.errors import UserError
from src.run import layout
from src.run.layout import ExitCode
from src.schema import Config

USAGE = "python -m launch.torchrun [--by-status] [torchrun's options] -m src.train [key=value ...]"


class Stopped(BaseException):
    """A signal while torch is imported; no `except Exception` of a library takes it for a failed import."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, frame: object) -> None:
    raise Stopped(number)


def main() -> None:
    """Run the job; exit with its exit code."""
    streams.guard(lossy=True)
    arguments = sys.argv[1:]
    by_status = arguments[:1] == ["--by-status"]
    arguments = arguments[by_status:]
    try:
        if "src.train" not in arguments:
            raise UserError(f"{' '.join(arguments) or 'no arguments'}: -m src.train is missing", fix=USAGE)
        settings = arguments[arguments.index("src.train") + 1 :]
        if {"-h", "--help"} & set(settings):
            print(config.help_text(settings))
            return
        code = run_by_status(arguments, settings) if by_status else run(arguments, settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = ExitCode.MISTAKE
    raise SystemExit(code)


def run(arguments: list[str], settings: list[str]) -> int:
    """Run the job unless the run is finished; torchrun's exit code. Raises UserError before a start."""
    given, is_dry = config.without_dry_run(settings)
    checked = config.parse(given)  # a mistake is reported once, before torch is imported
    if not is_dry and "--standalone" in arguments and train.nothing_left(checked):
        return ExitCode.FINISHED
    return supervise(arguments, checked)


def run_by_status(arguments: list[str], settings: list[str]) -> int:
    """Run the job unless the run is finished; the exit code of launch.job.verdict. Raises UserError before a start."""
    if config.DRY_RUN in settings:  # it leaves no status.json to judge by
        return run([*arguments, job.NO_FALLBACK], [job.NO_FALLBACK, *settings])
    checked = job.check(settings)
    folder = layout.directory(checked)
    before, ended = layout.read_status(folder), int(ExitCode.FINISHED)
    if not layout.is_finished(folder, checked):
        at = arguments.index("src.train") + 1
        ended = supervise([*arguments[:at], job.NO_FALLBACK, *settings], checked)
    code, text = job.verdict(job.at_start(before, folder), layout.read_status(folder), ended)
    print(f"{folder}: {text}", flush=True)
    return code


def supervise(arguments: list[str], settings: Config) -> int:
    """Run torchrun in this process; the exit code of the rank that failed first, or 128 + the signal."""
    # Blocked, not ignored: the ranks inherit the mask, and a signal stays pending until they have a handler.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2))
    handled = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup's stays ignored; torchrun would end the ranks
        handled.append(signal.SIGHUP)
    try:
        for number in handled:  # process 1 of a container has no default action for signals
            signal.signal(number, _stop)
        temporary.begin()
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is loaded; a pool would not be forked
        if "LOGLEVEL" not in os.environ:  # the variable that turns on torchrun's log
            logging.disable(logging.ERROR)
        with train.importing_torch(), limits.loading("torch"):
            from launch import agent

            agent.load(settings)
        path = layout.directory(settings)
        before = _written(path)
        code = agent.run(arguments, handled)
        if code and _written(path) != before:
            agent.leave_page(path)
        return code
    except Stopped as stopped:
        return 128 + stopped.number


def _written(path: Path) -> int:
    """When status.json was written, 0 where it was not: whether it is of these ranks."""
    try:
        return (path / layout.STATUS).stat().st_mtime_ns
    except OSError:
        return 0


if __name__ == "__main__":
    leaving.run_and_leave(main)
