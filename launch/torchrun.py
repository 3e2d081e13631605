"""torchrun with four changes: python -m launch.torchrun [--by-status] [torchrun's options] -m src.train ...

- SIGUSR1 and SIGUSR2, which warn the ranks of a time limit, do not kill torchrun.
- torchrun's temporary folder is removed.
- A failed job prints one line instead of torchrun's 45, and Ctrl-C no traceback.
- --standalone uses this host's loopback address, of IPv6 where there is no other, and looks up no name.
- Under nohup it goes on when the terminal is closed.

With --by-status the exit code follows status.json (launch.job.verdict: 0 only if the run is finished, 75 to start
again), for launchers that read only exit codes.
"""

import argparse
import logging
import os
import signal
import socket
import sys
import tempfile
import uuid
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else Ctrl-C prints where the import of torch was
if not __package__:  # `python launch/torchrun.py`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torch.distributed import DistError  # noqa: TID251
from torch.distributed import run as elastic  # noqa: TID251
from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: TID251
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: TID251
from torch.distributed.elastic.rendezvous import RendezvousError  # noqa: TID251

from launch import job
from src import config, leaving, streams, temporary
from src.errors import UserError
from src.run import layout
from src.run.layout import ELASTIC, ExitCode

USAGE = "python -m launch.torchrun [--by-status] [torchrun's options] -m src.train [key=value ...]"


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
        if by_status:
            code = run_by_status(arguments, settings)
        else:
            config.parse(settings)  # report a mistake once, before any rank starts
            code = supervise(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = ExitCode.MISTAKE
    raise SystemExit(code)


def run_by_status(arguments: list[str], settings: list[str]) -> int:
    """Run the job unless the run is finished; the exit code of launch.job.verdict. Raises UserError before a start."""
    checked = job.check(settings)
    run = layout.directory(checked)
    before, ended = layout.read_status(run), int(ExitCode.FINISHED)
    if not layout.is_finished(run, checked):
        at = arguments.index("src.train") + 1
        ended = supervise([*arguments[:at], job.NO_FALLBACK, *settings])
    code, text = job.verdict(job.at_start(before, run), layout.read_status(run), ended)
    print(f"{run}: {text}", flush=True)
    return code


def supervise(arguments: list[str]) -> int:
    """Run torchrun in this process; the exit code of the rank that failed first, or 128 + the signal."""
    # Blocked, not ignored: the ranks inherit the mask, and a signal stays pending until they have a handler.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2))
    handled = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup's stays ignored; torchrun would end the ranks
        handled.append(signal.SIGHUP)
    for number in handled:
        signal.signal(number, _raise)  # torchrun sets its handlers only after the rendezvous
    temporary.begin()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if "LOGLEVEL" not in os.environ:  # the variable that turns on torchrun's log
        logging.disable(logging.ERROR)
        os.environ.setdefault(
            "TORCH_CPP_LOG_LEVEL", "ERROR"
        )  # a rank that loses another prints a C++ stack as a warning
    with tempfile.TemporaryDirectory(prefix="torchrun-", ignore_cleanup_errors=True) as folder:
        options = elastic.parse_args([f"--log-dir={folder}", *arguments])  # type: ignore[no-untyped-call]
        options.signals_to_handle = ",".join(number.name for number in handled)
        if ":" in options.nnodes:
            _make_elastic()
        if options.standalone:
            _stay_on_this_host(options)
        try:
            elastic.run(options)  # type: ignore[no-untyped-call]
        except ChildFailedError as failed:
            return _report_first(failed)
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
        except (RendezvousError, DistError) as lost:
            print(f"error: {_hosts_lost(str(lost), options.rdzv_endpoint)}", file=sys.stderr)
            return ExitCode.FAILED
    return 0


def _raise(number: int, frame: object) -> None:
    """Handle a signal before the ranks exist; process 1 of a container has no default action for signals."""
    raise SignalException("signal before the ranks were started", signal.Signals(number))


def _hosts_lost(reason: str, endpoint: str) -> str:
    """One line for a rendezvous that failed: why, and what to do."""
    cause = reason.partition(". ")[0].partition("\n")[0][:120] or "timeout"
    return f"the hosts cannot meet at {endpoint} ({cause}); run the same command on every host to continue"


def _stay_on_this_host(options: argparse.Namespace) -> None:
    """Do what --standalone does, without names: a look-up of the host's takes minutes without a DNS server."""
    try:
        socket.create_server(("127.0.0.1", 0)).close()
        host = "127.0.0.1"
    except OSError:
        host = "::1"
    options.standalone, options.local_addr = False, options.local_addr or host
    options.rdzv_backend, options.rdzv_id = "c10d", str(uuid.uuid4())
    options.rdzv_endpoint = f"[{host}]:0" if ":" in host else f"{host}:0"


def _make_elastic() -> None:
    """Set the variables for a job whose hosts may join and leave.

    By default torchrun shares one TCPStore between all attempts. A host that joins later never learns its address,
    and it is lost with the host that serves it: the whole job then fails after a minute.
    """
    os.environ[ELASTIC] = "1"
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"


def _report_first(failed: ChildFailedError) -> int:
    """Print the error of the rank that failed first, and return its exit code. Rank 0 prints a UserError itself."""
    rank, failure = failed.get_first_failure()
    if rank != 0 or failure.exitcode != ExitCode.MISTAKE:
        message: object = failure.message
        text = str(message.get("message", "")) if isinstance(message, dict) else str(message)
        print(f"error: rank {rank} failed (exit code {failure.exitcode}): {text.strip()[-300:]}", file=sys.stderr)
    return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode


if __name__ == "__main__":
    leaving.run_and_leave(main)
