"""Who may import whom: the contracts of import-linter in pyproject.toml, and that each of them is one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.ranks import ROOT

LINTER = Path(sys.executable).with_name("lint-imports")
WITHOUT_TORCH = ("launch.job", "launch.submit", "src.config", "src.run.layout", "src.status", "src.environment")
HEAVY = {"torch", "numpy", "torchvision", "wandb"}


def lint(folder: Path) -> "subprocess.CompletedProcess[str]":
    """import-linter on a checkout."""
    if not LINTER.exists():
        pytest.skip("no import-linter: make setup-dev")
    return subprocess.run([LINTER, "--no-cache"], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the linter reads."""
    for name in ("src", "launch"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_are_kept() -> None:
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("src/data/new.py", "from src.run import checkpoint", "src: imports go down only"),
        ("src/world/new.py", "import src.gradients.build", "src: imports go down only"),
        ("src/predict/new.py", "import src.report.page", "src: imports go down only"),
        ("src/errors.py", "def late():\n    from src import config", "src: imports go down only"),
        ("src/unplaced.py", "", "src: imports go down only"),
        ("src/data/new.py", "from src.models import logistic", "src.data does not import a model"),
        ("launch/new.py", "from src.run.run import Run", "launch/ imports only what a login node needs of src"),
        ("launch/new.py", "import torch", "login nodes and status tables import no torch, not even indirectly"),
        ("src/run/layout.py", "import torch", "login nodes and status tables import no torch, not even indirectly"),
        ("src/run/seal.py", "import numpy", "login nodes and status tables import no torch, not even indirectly"),
    ],
)
def test_a_forbidden_import_is_refused(module: str, line: str, contract: str, checkout: Path) -> None:
    with (checkout / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = lint(checkout)
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout.replace("\n", " ")


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_a_module_that_answers_at_once_imports_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
