"""The project's files: the workflow, which file may import what, and how the tests mirror src/."""

import ast
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


def test_the_workflow_is_valid_and_runs_ci() -> None:
    pytest.importorskip("check_jsonschema")
    file = ROOT / ".github" / "workflows" / "check.yml"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "- run: .ci/run\n" in file.read_text()


@pytest.mark.parametrize(("package", "rooms"), LOCKED.items())
def test_only_these_files_import_the_package(package: str, rooms: set[str]) -> None:
    pattern = re.compile(rf"^\s*(?:import|from) {re.escape(package)}\b", re.MULTILINE)
    src = ROOT / "src"
    found = {str(file.relative_to(src)) for file in src.rglob("*.py") if pattern.search(file.read_text())}
    assert found == rooms
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--select", "TID251", "src"], cwd=ROOT)
    assert done.returncode == 0


@pytest.mark.parametrize("file", sorted((ROOT / "src").rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_source_is_ascii(file: Path) -> None:
    assert file.read_text().isascii()


def mirrored(file: Path) -> Path:
    """Where a file of src/ is tested: src/run/lock.py in tests/run/test_lock.py, a __main__.py in test_main.py."""
    name = file.name.replace("__main__", "main")
    return ROOT / "tests" / file.relative_to(ROOT / "src").with_name(f"test_{name}")


def test_every_source_file_has_its_test_file() -> None:
    sources = [file for file in (ROOT / "src").rglob("*.py") if file.name != "__init__.py"]
    missing = sorted(str(mirrored(file).relative_to(ROOT)) for file in sources if not mirrored(file).exists())
    assert missing == [], "write " + ", ".join(missing)


def test_helpers_are_imported_from_helpers() -> None:
    """What several test files need is in tests/helpers/, so that test files can be moved."""
    pattern = re.compile(r"^\s*(?:from|import) tests\.(?:\w+\.)*(?:test_\w+|conftest)\b.*", re.MULTILINE)
    found = {str(file.relative_to(ROOT)): pattern.findall(file.read_text()) for file in (ROOT / "tests").rglob("*.py")}
    assert {file: lines for file, lines in found.items() if lines} == {}


def slow_marks(file: Path) -> list[str]:
    """The places of `mark.slow` without `seconds=` in a test file."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    good = {
        id(node.func)
        for node in nodes
        if isinstance(node, ast.Call) and [keyword.arg for keyword in node.keywords] == ["seconds"]
    }
    marks = [node for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node).endswith("mark.slow")]
    return [f"{file.name}:{node.lineno}" for node in marks if id(node) not in good]


def test_every_slow_test_carries_its_seconds(tmp_path: Path) -> None:
    assert [place for file in sorted((ROOT / "tests").rglob("test_*.py")) for place in slow_marks(file)] == []
    (tmp_path / "test_it.py").write_text("@pytest.mark.slow\ndef test_it(): pass\n")
    assert slow_marks(tmp_path / "test_it.py") == ["test_it.py:1"]
