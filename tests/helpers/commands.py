"""Commands of this project in processes of their own, forked from this one, which has imported torch already."""

import faulthandler
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from src import leaving, streams
from tests.helpers.ranks import HUNG_SECONDS, ROOT

Main = Callable[[], None]


class Command:
    """A command whose output goes to files in a folder, or whose standard output goes to an open file.

    `before` is called in its process, before anything else.
    """

    def __init__(
        self,
        main: Main,
        arguments: list[str],
        environment: dict[str, str],
        folder: Path,
        *,
        stdin: bytes = b"",
        stdout: int | None = None,
        before: Main = lambda: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._arguments, self._files = arguments, (folder / "stdout", folder / "stderr")
        given = folder / "stdin"
        given.write_bytes(stdin)
        for file in self._files:
            file.touch()
        self.pid = os.fork()
        if self.pid == 0:
            self._be(main, environment, given, stdout, before)

    def _be(self, main: Main, environment: dict[str, str], given: Path, stdout: int | None, before: Main) -> None:
        try:
            os.chdir(ROOT)
            os.environ.clear()
            os.environ.update(environment)
            sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(":"))
            os.dup2(os.open(given, os.O_RDONLY), 0)
            for number, file in enumerate(self._files, 1):
                os.dup2(os.open(file, os.O_WRONLY | os.O_TRUNC), number)
            if stdout is not None:
                os.dup2(stdout, 1)
            faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True, file=2)
            sys.stdin = os.fdopen(0, closefd=False)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            sys.argv = ["command", *self._arguments]
            before()
            streams.guard()
            leaving.end_now(leaving.exit_code(main))
        finally:
            os._exit(70)

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self) -> "subprocess.CompletedProcess[str]":
        """What it left, once it has ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return subprocess.CompletedProcess(self._arguments, code, *(file.read_text() for file in self._files))


def command(
    module: str,
    *arguments: str,
    environment: dict[str, str] | None = None,
    stdin: bytes = b"",
    stdout: int | None = None,
    where: Path = ROOT,
) -> "subprocess.CompletedProcess[str]":
    """What `python -m MODULE` of the checkout does, started in the folder `where`: its exit code and output.

    `environment` is added to this one's.
    """
    try:
        loaded = importlib.import_module(f"{module}.__main__")
    except ModuleNotFoundError:
        loaded = importlib.import_module(module)
    with TemporaryDirectory() as folder:
        variables = os.environ | (environment or {})
        started = Command(
            loaded.main,
            list(arguments),
            variables,
            Path(folder),
            stdin=stdin,
            stdout=stdout,
            before=lambda: os.chdir(where),
        )
        return started.wait()


def python_m(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The same in a Python of its own: where its start is what is tested."""
    call = [sys.executable, "-m", module, *arguments]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=HUNG_SECONDS)
