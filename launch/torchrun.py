"""torchrun without its habits: python -m launch.torchrun [--by-status] [torchrun's options] -m src.train ...

It is deaf to the warning signals, of which torchrun would die, while the ranks hear them; it removes torchrun's
temporary folder; it says in one line why the job ended, where torchrun says 45. With --by-status the exit code
tells how the run is (launch.job: 0 only if finished, 75 to start again), for launchers that know only codes.
"""

import logging
import os
import signal
import sys
import tempfile

from torch.distributed import DistError  # noqa: TID251
from torch.distributed import run as elastic  # noqa: TID251
from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: TID251
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: TID251
from torch.distributed.elastic.rendezvous import RendezvousError  # noqa: TID251

from launch import job
from src import config
from src.errors import UserError
from src.run import layout
from src.run.layout import ELASTIC, ExitCode


def main() -> None:
    """Run the job and leave with its exit code."""
    arguments = sys.argv[1:]
    by_status = arguments[:1] == ["--by-status"]
    arguments = arguments[by_status:]
    try:
        settings = arguments[arguments.index("src.train") + 1 :]
        if {"-h", "--help"} & set(settings):
            print(config.help_text(settings))
            return
        if by_status:
            code = judged(arguments, settings)
        else:
            config.parse(settings)  # once and at once, not on every rank after it has started
            code = supervise(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = ExitCode.MISTAKE
    raise SystemExit(code)


def judged(arguments: list[str], settings: list[str]) -> int:
    """Run the job; the exit code is the verdict on the run. Raises UserError before anything starts."""
    checked = job.check(settings)
    run = layout.directory(checked)
    if layout.is_finished(run, checked):
        print(f"{run}: was finished already", flush=True)
        return ExitCode.FINISHED
    before = layout.read_status(run)
    at = arguments.index("src.train") + 1
    ended = supervise([*arguments[:at], "data.fallback=none", *settings])
    code, text = job.verdict(before, layout.read_status(run), ended)
    print(f"{run}: {text}", flush=True)
    return code


def supervise(arguments: list[str]) -> int:
    """Run torchrun in this process; the exit code of the rank that failed first, or 128 + the signal."""
    # Blocked, not ignored: a warning to ranks that are still starting waits until they can hear it.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2))
    signal.signal(signal.SIGTERM, _leave)  # torchrun's own comes with the ranks, perhaps after minutes of waiting
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "LOGLEVEL" not in os.environ:  # torchrun's own variable: whoever sets it wants to read them
        logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="torchrun-", ignore_cleanup_errors=True) as folder:
        options = elastic.parse_args([f"--log-dir={folder}", *arguments])  # type: ignore[no-untyped-call]
        if ":" in options.nnodes:
            _let_hosts_change()
        try:
            elastic.run(options)  # type: ignore[no-untyped-call]
        except ChildFailedError as failed:
            return _first(failed)
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
        except (RendezvousError, DistError) as lost:
            print(f"error: {_hosts_lost(str(lost), options.rdzv_endpoint)}", file=sys.stderr)
            return ExitCode.FAILED
    return 0


def _leave(number: int, frame: object) -> None:
    """The first process of a container has no default for signals: without a handler it is deaf."""
    raise SignalException("asked to leave before the ranks were there", signal.Signals(number))


def _hosts_lost(reason: str, endpoint: str) -> str:
    """Why the hosts do not meet (again), and what to do."""
    gist = reason.partition(". ")[0].partition("\n")[0][:120] or "waited in vain for the others"
    return f"the hosts cannot meet at {endpoint} ({gist}); run the same command on every host to go on"


def _let_hosts_change() -> None:
    """Hosts may come and go: tell the ranks, and keep torchrun from trusting a store of the first hour.

    It shares one between all attempts, of which a host that joins later never learns the address, and which is
    gone with the host that held it; the whole job then dies after a minute.
    """
    os.environ[ELASTIC] = "1"
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"


def _first(failed: ChildFailedError) -> int:
    """Name the rank that failed first; a mistake (exit code 2) rank 0 has named itself."""
    rank, failure = failed.get_first_failure()
    if rank != 0 or failure.exitcode != ExitCode.MISTAKE:
        told: object = failure.message
        text = str(told.get("message", "")) if isinstance(told, dict) else str(told)
        print(f"error: rank {rank} failed (exit code {failure.exitcode}): {text.strip()[-300:]}", file=sys.stderr)
    return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode


if __name__ == "__main__":
    main()
