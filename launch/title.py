"""What ps(1) and top(1) show of a process: in a fork it is its parent's command."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

ARGUMENTS = 45, 47  # fields of /proc/self/stat after the name: where the command's words begin and end in memory


def show(words: list[str], name: str) -> None:
    """Let ps show these words, cut to the length of the words before, and top this name, cut to 15 characters.

    The name gets no spaces: Slurm's proctrack/linuxproc, which reads /proc/PID/stat by words, would lose the process,
    neither warn it of the time limit nor kill it, and keep the node.
    """
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name.replace(" ", "-"))
        begin, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[slice(*ARGUMENTS)])
        size = end - begin
        if begin and size == len(Path("/proc/self/cmdline").read_bytes()):  # else this kernel does not tell
            ctypes.memmove(begin, b"\0".join(map(os.fsencode, words))[: size - 1].ljust(size, b"\0"), size)
