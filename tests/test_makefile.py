"""The Makefile's setup targets, with a fake uv that writes down its arguments."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.ranks import ROOT

UV = """#!/bin/sh
echo "$*" >>"$CALLS"
if [ "$1" = venv ]; then mkdir -p .venv/bin; fi
"""


class Checkout:
    """A folder with the Makefile and the lock files, where `make` finds the fake uv first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._calls = folder / "checkout", folder / "calls"
        (folder / "bin").mkdir()
        (folder / "bin" / "uv").write_text(UV)
        (folder / "bin" / "uv").chmod(0o755)
        self.folder.mkdir()
        for file in (ROOT / "Makefile", *ROOT.glob("requirements*.lock")):
            shutil.copy(file, self.folder)
        self._variables = os.environ | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "CALLS": str(self._calls)}

    def make(self, *targets: str) -> None:
        done = subprocess.run(["make", *targets], cwd=self.folder, env=self._variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def calls(self, command: str) -> list[list[str]]:
        """The words of each call of this command of uv, in order."""
        calls = [line.split() for line in self._calls.read_text().splitlines()]
        return [words for words in calls if " ".join(words).startswith(command)]

    def installed(self) -> set[str]:
        """The lock files of the last sync, which removes every package that they do not name."""
        return {word for word in self.calls("pip sync")[-1] if word.endswith(".lock")}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


ALL = {"requirements.lock", "requirements-dev.lock", "requirements-bench.lock", "requirements-export.lock"}


@pytest.mark.parametrize(
    "targets",
    [
        ("setup", "setup-dev", "setup-bench", "setup-export"),
        ("setup-bench", "setup-export", "setup-dev"),
        ("-j4", "setup-dev", "setup-export", "setup-bench"),
    ],
)
def test_several_sets_in_one_call_are_all_installed(targets: tuple[str, ...], checkout: Checkout) -> None:
    checkout.make(*targets)
    assert checkout.installed() == ALL


def test_a_later_set_keeps_the_earlier_ones(checkout: Checkout) -> None:
    checkout.make("setup-bench")
    assert checkout.installed() == {"requirements.lock", "requirements-bench.lock"}
    checkout.make("setup")
    assert len(checkout.calls("pip sync")) == 1, "nothing is new"
    checkout.make("setup-dev")
    assert checkout.installed() == ALL - {"requirements-export.lock"}
    os.utime(checkout.folder / "requirements.lock", (2**31, 2**31))
    checkout.make("setup")
    assert checkout.installed() == ALL - {"requirements-export.lock"}


def test_the_environment_can_be_moved(checkout: Checkout) -> None:
    """Its scripts name the Python beside them, not the folder in which they were made."""
    checkout.make("setup")
    ((*words,),) = checkout.calls("venv")
    assert "--relocatable" in words
