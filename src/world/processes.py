"""The processes of the ranks, as proc(5) shows them: which have ended, and which are stopped."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Process:
    """A rank's process. Its pid has a meaning in `namespace` only: a host and a pid namespace on it.

    `start` is the time of its start in clock ticks since boot: another process with the same pid has another one.
    """

    namespace: str
    pid: int
    start: str

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone or a zombie; to be asked in its namespace."""
        state, start = _stat(self.pid)
        return state in "ZX" or start != self.start

    @property
    def is_stopped(self) -> bool:
        """Whether a signal or a debugger has stopped it; to be asked in its namespace."""
        return _stat(self.pid)[0] in "Tt"


def this_process() -> Process:
    """The calling process; `start` is empty where there is no /proc."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return Process(f"{machine()} {namespace}", os.getpid(), _stat(os.getpid())[1])


def machine() -> str:
    """What tells this host from others, which may have the same name (localhost, a cloned image): its boot too."""
    try:
        boot = BOOT.read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}"


def _stat(pid: int) -> tuple[str, str]:
    """(state, start time) of a process; ("X", "") if it is gone."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return after_name[0], after_name[19]
    except OSError:
        return "X", ""
