"""Commands of this project in Linux namespaces of their own: other mounts, another network, another host name."""

import ctypes
import faulthandler
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from src.doctor import __main__ as doctor
from tests.helpers.commands import Command
from tests.helpers.ranks import HUNG_SECONDS, ROOT

NEW_USER = 0x10000000
FLAGS = {"--mount": 0x20000, "--uts": 0x4000000, "--net": 0x40000000}  # sched.h
PRIVATE = 0x4000 | 0x40000  # MS_REC | MS_PRIVATE: what is mounted here is not seen outside


def in_namespaces(namespaces: str, prepare: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m` in namespaces of its own (unshare's options), after a shell command there."""
    return _in(namespaces, prepare, "-m", *arguments)


def python_in(namespaces: str, prepare: str, program: str) -> str:
    """What a Python program prints in namespaces of its own."""
    done = _in(namespaces, prepare, "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _in(namespaces: str, prepare: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    unshare = _need(namespaces)
    command = f"{prepare} && exec {shlex.join([sys.executable, *arguments])}"
    return subprocess.run([*unshare, "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=300)


def _need(namespaces: str) -> list[str]:
    """The command that makes them; skips the test where there are none."""
    unshare = ["unshare", *namespaces.split(), "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces here (unshare)")
    return unshare


def doctor_in(namespaces: str, prepare: str, *arguments: str) -> list[dict[str, str]]:
    """The doctor's findings in namespaces: in a fork of this process, which has imported torch."""
    _need(namespaces)

    def enter() -> None:
        faulthandler.cancel_dump_traceback_later()  # only a process of one thread may have a namespace of users,
        while len(os.listdir("/proc/self/task")) > 1:  # and this one's thread is there for a moment longer
            time.sleep(0.001)
        libc = ctypes.CDLL(None, use_errno=True)
        user, group = os.geteuid(), os.getegid()
        if libc.unshare(sum(FLAGS[name] for name in namespaces.split()) | NEW_USER):
            raise OSError(ctypes.get_errno(), "unshare")
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            Path(f"/proc/self/{file}").write_text(text)
        if libc.mount(b"none", b"/", None, PRIVATE, None) and "--mount" in namespaces:
            raise OSError(ctypes.get_errno(), "mount")
        subprocess.run(["sh", "-c", prepare], check=True)
        faulthandler.dump_traceback_later(HUNG_SECONDS, exit=True)

    with TemporaryDirectory() as folder:
        words = ["--json", "--seconds=300", *arguments]
        done = Command(doctor.main, words, dict(os.environ), Path(folder), before=enter).wait()
    assert done.returncode in (0, 1), (done.returncode, done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]
