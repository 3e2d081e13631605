"""Commands of this project in Linux namespaces of their own: other mounts, another network, another host name."""

import json
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.helpers.ranks import ROOT


def in_namespaces(namespaces: str, prepare: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m` in namespaces of its own (unshare's options), after a shell command there."""
    return _in(namespaces, prepare, "-m", *arguments)


def python_in(namespaces: str, prepare: str, program: str) -> str:
    """What a Python program prints in namespaces of its own."""
    done = _in(namespaces, prepare, "-c", program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _in(namespaces: str, prepare: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    unshare = ["unshare", *namespaces.split(), "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces here (unshare)")
    command = f"{prepare} && exec {shlex.join([sys.executable, *arguments])}"
    return subprocess.run([*unshare, "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=300)


def doctor_in(namespaces: str, prepare: str, *arguments: str) -> list[dict[str, str]]:
    """The doctor's findings in namespaces."""
    done = in_namespaces(namespaces, prepare, "src.doctor", "--json", "--seconds=300", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
