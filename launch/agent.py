"""torchrun's agent in this process: what it is given, and what its errors say in one line. Imports torch."""

import argparse
import os
import shutil
import signal
import socket
import sys
import tempfile
import uuid
from pathlib import Path

from torch.distributed import DistError  # noqa: TID251
from torch.distributed import run as elastic  # noqa: TID251
from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: TID251
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: TID251
from torch.distributed.elastic.rendezvous import RendezvousError  # noqa: TID251

from launch import forked, one_host
from src.errors import UserError
from src.run import layout
from src.run.layout import ELASTIC, ExitCode
from src.schema import Config

MONITOR_SECONDS = 0.05  # between two looks at the ranks
LAST_CALL_SECONDS = 5  # for more hosts, once there are enough


def load(settings: Config) -> None:
    """Import what every rank of such a job imports, once for all and for all attempts."""
    from src import job  # noqa: F401

    plain = settings.optim.name == "sgd" and not settings.optim.momentum and not os.path.exists("/dev/nvidiactl")
    if settings.train.compile or not plain:
        import torch._dynamo  # noqa: F401  # torch's compiler: its optimizers import it


def run(arguments: list[str], handled: list[signal.Signals]) -> int:
    """Run torchrun; the exit code of the rank that failed first, or 128 + the signal. `handled` end the ranks."""
    for number in handled:
        signal.signal(number, _raise)  # torchrun sets its handlers only after the rendezvous
    folder = tempfile.mkdtemp(prefix="torchrun-")
    try:
        given = [f"--log-dir={folder}", f"--monitor-interval={MONITOR_SECONDS}", *arguments]
        options = elastic.parse_args(given)  # type: ignore[no-untyped-call]
        options.signals_to_handle = ",".join(number.name for number in handled)
        if options.standalone:
            _stay_on_this_host(options)
        elif ":" in options.nnodes:
            _make_elastic(options)
        with forked.ranks():
            elastic.run(options)  # type: ignore[no-untyped-call]
    except ChildFailedError as failed:
        return _report_first(failed)
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    except (RendezvousError, DistError) as lost:
        print(f"error: {_hosts_lost(str(lost), options.rdzv_endpoint)}", file=sys.stderr)
        return ExitCode.FAILED
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # not a TemporaryDirectory: the end of a fork would remove it
    return 0


def leave_page(path: Path) -> None:
    """Where rank 0 of the run in `path` was killed hard: its page, and a line that says how it goes on."""
    from src.report import page  # only here: the start does not wait for it

    try:
        if not (goes_on := page.of_killed(path)):
            return
    except (UserError, OSError, ValueError) as error:
        lost = f"{path}/{layout.REPORT}: not written ({error}); `python -m src.report {path}` writes it"
        print(f"warning: {lost}", file=sys.stderr)
        return
    print(f"killed   {goes_on}; {path / layout.REPORT}", flush=True)


def _raise(number: int, frame: object) -> None:
    """Handle a signal before the ranks exist."""
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
    options.rdzv_backend, options.rdzv_id = one_host.register(), str(uuid.uuid4())
    options.rdzv_endpoint = f"[{host}]:0" if ":" in host else f"{host}:0"


def _make_elastic(options: argparse.Namespace) -> None:
    """What a job needs whose hosts may join and leave.

    Once there are enough hosts, torchrun waits for 30 s for more, in each attempt. A host that comes later costs an
    attempt, which is little beside that.

    By default torchrun shares one TCPStore between all attempts. A host that joins later never learns its address,
    and it is lost with the host that serves it: the whole job then fails after a minute.
    """
    options.rdzv_conf = ",".join(filter(None, [f"last_call_timeout={LAST_CALL_SECONDS}", options.rdzv_conf]))
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
