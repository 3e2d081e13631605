"""The project's own files: the workflow, and where the rooms' locks are."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.ranks import ROOT

LOCKED = {
    "torch.distributed": {"world/world.py", "world/rendezvous.py", "gradients/ddp.py", "gradients/bitwise.py"},
    "wandb": {"tracking/wandb_uploader.py"},
    "omegaconf": {"config.py"},
    "torchvision": {"data/dataset.py"},
}


def test_the_workflow_is_one_and_runs_what_ci_runs() -> None:
    pytest.importorskip("check_jsonschema")
    file = ROOT / ".github" / "workflows" / "check.yml"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "- run: .ci/run\n" in file.read_text()


@pytest.mark.parametrize(("package", "rooms"), LOCKED.items())
def test_the_rooms_locks(package: str, rooms: set[str]) -> None:
    pattern = re.compile(rf"^\s*(?:import|from) {re.escape(package)}\b", re.MULTILINE)
    src = ROOT / "src"
    found = {str(file.relative_to(src)) for file in src.rglob("*.py") if pattern.search(file.read_text())}
    assert found == rooms
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--select", "TID251", "src"], cwd=ROOT)
    assert done.returncode == 0


@pytest.mark.parametrize("file", sorted((ROOT / "src").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_source_is_ascii(file: Path) -> None:
    assert file.read_text().isascii()
