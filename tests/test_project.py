"""The project's files: the workflow, which file may import what, and how the tests mirror src/."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.ranks import ROOT

LOCKED = {
    "torch.distributed": {
        *("world/world.py", "world/rendezvous.py", "world/roll_call.py", "gradients/ddp.py", "gradients/exchange.py")
    },
    "wandb": {"tracking/wandb_uploader.py"},
    "omegaconf": {"config.py"},
    "fsspec": {"run/store.py"},
    "torchvision": {"data/provision.py"},
}


def test_the_workflow_is_valid_and_runs_ci() -> None:
    pytest.importorskip("check_jsonschema")
    file = ROOT / ".github" / "workflows" / "check.yml"
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "- run: .ci/run\n" in file.read_text()


@pytest.mark.parametrize(("package", "files"), LOCKED.items())
def test_only_these_files_import_the_package(package: str, files: set[str]) -> None:
    pattern = re.compile(rf"^\s*(?:import|from) {re.escape(package)}\b", re.MULTILINE)
    src = ROOT / "src"
    found = {str(file.relative_to(src)) for file in src.rglob("*.py") if pattern.search(file.read_text())}
    assert found == files
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


# What a model's file knows, and the data sets of digits: nothing else may.
DIGITS_ONLY = {
    "predict/marks.py",
    "predict/photograph.py",
    "predict/picture.py",
    "predict/ruled.py",
    "report/report_draw.js",
}


def model_knowledge(text: str) -> list[str]:
    """What code has no right to know about a model: its classes, the shape of its inputs, how it scales them."""
    return re.findall(r"\bCLASSES\b|\bSHAPE\b|\bPIXELS ?=|/ ?255\b|\bdigit\b|\bbce\b|cross_entropy|\baccuracy\b", text)


def test_only_models_and_data_sets_know_classes_shapes_and_scales() -> None:
    src = ROOT / "src"
    files = [file for kind in ("*.py", "*.js", "*.html") for file in src.rglob(kind)]
    names = {str(file.relative_to(src)): model_knowledge(file.read_text()) for file in files}
    assert {name: found for name, found in names.items() if found and name.split("/")[0] not in ("data", "models")} == {
        name: names[name] for name in DIGITS_ONLY
    }
    assert model_knowledge("x / 255; CLASSES = 10; a digit; loss == 'bce'") == ["/ 255", "CLASSES", "digit", "bce"]


# Each starts in a tenth of the time without torch; src.doctor too, once its checks are imported after its arguments.
COMMANDS = ("train", "evaluate", "export", "predict", "report", "status", "track", "doctor", "drill", "data")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_does_not_import_torch_and_can_be_read(name: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", f"src.{name}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert re.findall(r"\| +(torch|PIL|wandb)$", done.stderr, re.MULTILINE) == []
    lines = [line for line in done.stdout.splitlines() if line]
    assert len(lines) > 4
    if name not in ("train", "drill"):  # the docstring as it is written, not folded into one paragraph
        module = ROOT / "src" / f"{name}.py"
        module = module if module.exists() else ROOT / "src" / name / "__main__.py"
        docstring = ast.get_docstring(ast.parse(module.read_text())) or ""
        assert docstring in done.stdout


@pytest.mark.parametrize("name", [*(f"src/{name}" for name in COMMANDS), "launch/submit", "launch/torchrun"])
def test_a_command_may_be_named_by_its_file(name: str, tmp_path: Path) -> None:
    """As in `torchrun src/train.py`, in whatever folder."""
    file = ROOT / name if (ROOT / name).is_dir() else ROOT / f"{name}.py"
    help_wanted = ["-m", "src.train", "--help"] if name == "launch/torchrun" else ["--help"]
    command = [sys.executable, str(file), *help_wanted]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 4


def test_status_does_not_import_torch(tmp_path: Path) -> None:
    script = "import sys; sys.argv = ['status', sys.argv[1]]; from src import status; status.main()"
    script += "; assert not {'torch', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no runs yet" in done.stdout
