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
    unshare = ["unshare", *namespaces.split(), "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces here (unshare)")
    command = f"{prepare} && exec {shlex.join([sys.executable, '-m', *arguments])}"
    return subprocess.run([*unshare, "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=300)


def doctor_in(namespaces: str, prepare: str, *arguments: str) -> list[dict[str, str]]:
    """The doctor's findings in namespaces."""
    done = in_namespaces(namespaces, prepare, "src.doctor", "--json", "--seconds=300", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
