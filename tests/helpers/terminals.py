"""A command on a real terminal: what it prints, keys that are pressed, and a terminal that goes away."""

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import termios
import threading
import time
from collections.abc import Iterator

from tests.helpers.ranks import ROOT

SECONDS = 240


class Screen:
    """A terminal: what its process has printed."""

    def __init__(self, handle: int) -> None:
        self._handle, self.shown, self._closed = handle, b"", False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # the process is gone, or the terminal is
            while not self._closed:
                if select.select([self._handle], [], [], 0.1)[0]:
                    self.shown += os.read(self._handle, 4096)

    def until(self, text: bytes) -> None:
        """Wait until that is printed."""
        deadline = time.monotonic() + SECONDS
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown.decode()
            time.sleep(0.01)

    def close(self) -> None:
        """The terminal goes away, as a window that is closed."""
        self._closed = True
        self._reader.join()
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1

    def press(self, key: bytes) -> None:
        """Type it."""
        os.write(self._handle, key)

    def until_end(self) -> str:
        """All that was printed until the process ended."""
        self._reader.join(timeout=SECONDS)
        assert not self._reader.is_alive()
        return self.shown.decode()

    def until_ctrl_c(self) -> str:
        """Press Ctrl-C; returns all that was printed until the process ended."""
        self.press(b"\x03")
        return self.until_end()


@contextlib.contextmanager
def terminal(command: list[str], columns: int = 100, **environment: str) -> Iterator[tuple[int, Screen]]:
    """Start a command on a terminal of 24 lines; what it is started from does not ignore the terminal's signals."""
    pid, handle = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        os.execve(command[0], command, os.environ | {"TERM": "xterm", "OMP_NUM_THREADS": "1"} | environment)
    screen = Screen(handle)
    try:
        yield pid, screen
    finally:
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):  # only a failed test leaves it
                os.kill(pid, signal.SIGKILL)
        screen.close()
