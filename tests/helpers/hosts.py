"""Several hosts on this machine (hosts.sh), and the processes on them seen from outside."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.processes import environment
from tests.helpers.ranks import ROOT

PATIENCE_SECONDS = 240  # longer than anything here takes: then it has hung
MARK = "RUN_OF_TEST"  # the environment variable that marks a test's processes


@dataclass
class Process:
    """A process, wherever it runs."""

    pid: int
    command: str
    environment: dict[str, str]

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.pid, signal.SIGKILL)

    def hold(self) -> None:
        """SIGSTOP: the job makes no step until it is released, so the test does not depend on the machine's speed."""
        os.kill(self.pid, signal.SIGSTOP)

    def release(self) -> None:
        """SIGCONT, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)

    def release_at(self, number: signal.Signals) -> None:
        """SIGCONT as soon as this signal is pending."""
        wait(lambda: self._pending(number), f"{number.name} to {self.command}")
        self.release()

    def _pending(self, number: signal.Signals) -> bool:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except FileNotFoundError:
            return True
        masks = re.findall(r"^(?:SigPnd|ShdPnd):\s*(\w+)", status, re.MULTILINE)
        return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


class Hosts:
    """Hosts node1, node2, ... on a bridge. They end with this process, also when it is killed."""

    def __init__(self, base: Path, script: Path = ROOT / "tests" / "helpers" / "hosts.sh", **options: str) -> None:
        self._script = script
        base.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        self._environment = kept | {"BASE": str(base)} | options
        self._process = subprocess.Popen(
            [str(script), "up"],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(base / "up.err").open("w"),
            text=True,
            start_new_session=True,  # Ctrl-C in a terminal goes to pytest alone, which ends it
        )
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer == "ready\n", (answer, (base / "up.err").read_text())

    def down(self) -> None:
        """End every process on them."""
        self._process.communicate(timeout=30)

    def script(self, *words: str) -> str:
        """One of the script's commands; its output."""
        done = subprocess.run(
            [str(self._script), *words], env=self._environment, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def start(self, host: str, command: list[str], log: Path, **variables: str) -> "subprocess.Popen[bytes]":
        """Start a command on a host; its output is added to the log."""
        words = [str(self._script), "on", host, "env", *(f"{name}={value}" for name, value in variables.items())]
        with log.open("ab") as stream:
            return subprocess.Popen([*words, *command], env=self._environment, cwd=ROOT, stdout=stream, stderr=stream)


def objection(*programs: str) -> str:
    """Why hosts cannot be created here, "" if they can."""
    if os.geteuid():
        return "hosts in namespaces need root"
    if missing := [name for name in ("ip", "nsenter", "unshare", *programs) if not shutil.which(name)]:
        return f"not installed: {' '.join(missing)}"
    command = "unshare --net --pid --fork --mount ip link add bridge type bridge"
    done = subprocess.run(command.split(), capture_output=True, text=True)
    return f"no namespaces: {done.stderr.strip()}" if done.returncode else ""


def wait(condition: Callable[[], object], what: Callable[[], str] | str) -> None:
    """Wait until the condition is true; fails after PATIENCE_SECONDS, naming `what`."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what if isinstance(what, str) else what()}"
        time.sleep(0.1)


def find(mark: str, command: str, **environment: str) -> Process:
    """Wait for the process with this text in its command line and these variables in its environment."""
    found: list[Process] = []

    def look() -> bool:
        found[:] = [
            process
            for process in processes(mark)
            if command in process.command and environment.items() <= process.environment.items()
        ]
        return bool(found)

    wait(look, f"{command} {environment}")
    return found[0]


def processes(mark: str) -> list[Process]:
    """Every live process that was started with RUN_OF_TEST=mark, on whatever host."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = environment(int(entry.name))
            command = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if variables.get(MARK) == mark:
            found.append(Process(int(entry.name), command, variables))
    return found
