"""This test's process as a launcher would start it: variables, and a launcher's process above it."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.helpers.ranks import ROOT

PREFIXES = ("SLURM", "OMPI_", "PMI", "MPI_", "MV2_", "PALS_", "TORCHELASTIC_", "MASTER_", "GLOO_", "NCCL_")
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK")


def is_launcher_s(name: str) -> bool:
    """Whether a launcher sets the variable."""
    return name in NAMES or name.startswith(PREFIXES)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove every variable of a launcher."""
    for name in filter(is_launcher_s, list(os.environ)):
        monkeypatch.delenv(name)


def given(monkeypatch: pytest.MonkeyPatch, variables: str) -> None:
    """Have these variables of a launcher ("A=1 B=2"), and no others."""
    forget(monkeypatch)
    for word in variables.split():
        monkeypatch.setenv(*word.split("=", 1))


def below(launcher: str, expression: str, before: str = "", within: str = "") -> Any:
    """An expression's value (JSON) in a Python below a process whose command line begins with `launcher`.

    `before` are variables that the launcher's task is started with, `within` those that it sets itself.
    """
    program = f"import json; from src import environment; from src.launchers import *; print(json.dumps({expression}))"
    task = ["env", *before.split(), "bash", "-c", f'{within} "$@"; true', "task", sys.executable, "-c", program]
    words = [launcher, "-c", '"$@"; true', "launcher", *task]
    kept = {name: value for name, value in os.environ.items() if not is_launcher_s(name)}
    done = subprocess.run(words, executable="/bin/bash", cwd=ROOT, env=kept, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
