"""A model's file, read without running it: its settings, and the hash of its code."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from src import model_file
from src.errors import UserError
from tests.helpers.ranks import ROOT

FILE = """
import torch
import layers
from blocks.wide import Wide
from dataclasses import dataclass
from src.schema import key

WIDTH = 8


@dataclass
class Settings:
    width: int = WIDTH
    names: list[str] = key(["a"], "names")
    deep: bool = False
    rate: float = key(0.5, "a rate", above=0, below=1)


def build(settings, data):
    return torch.nn.Linear(settings.width, 2)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A model with two local modules, one of which imports a third."""
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "__init__.py").write_text("")
    (tmp_path / "blocks" / "wide.py").write_text("from blocks import narrow\nWide = 1\n")
    (tmp_path / "blocks" / "narrow.py").write_text("Narrow = 2\n")
    (tmp_path / "layers.py").write_text("import math\n")
    (tmp_path / "unrelated.py").write_text("")
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path / "mine.py"


def test_settings_are_read_with_their_types_and_defaults(file: Path) -> None:
    fields = model_file.settings_of(file)
    assert {name: (field.type, model_file.default_of(field)) for name, field in fields.items()} == {
        "width": (int, 8),
        "names": (list[str], ["a"]),
        "deep": (bool, False),
        "rate": (float, 0.5),
    }
    assert fields["rate"].metadata["below"] == 1


def test_annotations_may_be_text(file: Path) -> None:
    file.write_text("from __future__ import annotations\n" + FILE)
    fields = model_file.settings_of(file)
    assert [field.type for field in fields.values()] == [int, list[str], bool, float]
    assert not [name for name in sys.modules if name.startswith("settings of ")]


def test_settings_are_read_without_torch(file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from src import config\n"
        f"settings = config.parse(['model.name={file}', 'model.width=3'])\n"
        "print(settings.model.settings, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "{'width': 3, 'names': ['a'], 'deep': False, 'rate': 0.5} False\n"


@pytest.mark.parametrize(
    ("field", "advice"),
    [
        ("width: int", "has no default"),
        ("width: int = torch.int8", "NameError: name 'torch' is not defined; it is read alone"),
        ("width: dict = None", "is no type of a setting; use an integer, a number"),
        ("name: str = 'x'", "Settings.name: is taken by model.name"),
        ("width: Missing = 3", "NameError: name 'Missing' is not defined"),
    ],
)
def test_settings_that_cannot_be_read_are_named(field: str, advice: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"import torch\nclass Settings:\n    {field}\n")
    with pytest.raises(UserError) as error:
        model_file.settings_of(file)
    assert advice in str(error.value)
    assert str(file) in str(error.value)


def test_a_syntax_error_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def build(:\n")
    with pytest.raises(UserError, match=r"mine\.py, line 1: invalid syntax"):
        model_file.settings_of(tmp_path / "mine.py")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("logistics", r"no such model; write one of .*logistic"),
        ("no/such.py", r"model.name=no/such.py: no such file"),
        ("../models", r"no such file"),
    ],
)
def test_a_model_that_is_not_there(name: str, advice: str) -> None:
    with pytest.raises(UserError, match=advice):
        model_file.find(name)


def test_sources_are_the_local_modules_that_are_imported(file: Path) -> None:
    assert sorted(model_file.sources(file)) == ["", "blocks", "blocks.narrow", "blocks.wide", "layers"]


def test_comments_and_layout_are_no_change(file: Path) -> None:
    before = model_file.code_sha256(file)
    file.write_text("# a comment\n\n\n" + FILE.replace("WIDTH = 8", "WIDTH = (8)  # wide"))
    assert model_file.code_sha256(file) == before


@pytest.mark.parametrize(
    "changed", ["mine.py", "layers.py", "blocks/wide.py", "blocks/narrow.py", "blocks/__init__.py"]
)
def test_code_of_any_source_is_a_change(changed: str, file: Path) -> None:
    before = model_file.code_sha256(file)
    source = file.parent / changed
    source.write_text(source.read_text() + "\nx = 1\n")
    assert model_file.code_sha256(file) != before
    (file.parent / "unrelated.py").write_text("x = 1")


def test_an_unrelated_file_is_no_change(file: Path) -> None:
    before = model_file.code_sha256(file)
    (file.parent / "unrelated.py").write_text("x = 1")
    assert model_file.code_sha256(file) == before


def test_a_copy_has_the_same_hash(file: Path, tmp_path: Path) -> None:
    model_file.copy(file, tmp_path / "run" / "model")
    copy = tmp_path / "run" / "model" / "mine.py"
    assert model_file.code_sha256(copy) == model_file.code_sha256(file)
    assert (copy.parent / "blocks" / "narrow.py").exists()


def test_relative_imports_of_a_built_in_model_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base.py").write_text("x = 1\n")
    (tmp_path / "mine.py").write_text("from .base import x\n")
    assert sorted(model_file.sources(tmp_path / "mine.py")) == ["", "base"]


def test_the_names_of_all_imports_also_of_local_modules(tmp_path: Path) -> None:
    (tmp_path / "layers.py").write_text("import random\nfrom numpy import random as r\n")
    (tmp_path / "mine.py").write_text("import torch.nn as nn\nimport layers\nfrom . import other\n")
    assert model_file.imports(tmp_path / "mine.py") == {"torch", "layers", "random", "numpy"}


def test_only_files_that_build_a_model_are_models() -> None:
    with pytest.raises(UserError, match=r"model.name=contract: no such model; write one of") as error:
        model_file.find("contract")
    assert "loading" not in str(error.value)


def test_a_copy_is_whole_whenever_its_process_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start reads the run's settings by the copy: half of it would have no Settings."""
    file, folder = model_file.find("logistic"), tmp_path / "model"
    model_file.copy(file, folder)
    copies = []

    def killed(source: Path, target: Path) -> None:
        Path(target).write_text("")
        copies.append(Path(target))
        raise KeyboardInterrupt

    monkeypatch.setattr("shutil.copyfile", killed)
    with pytest.raises(KeyboardInterrupt):
        model_file.copy(file, folder)
    assert copies[0] != folder / "logistic.py"
    assert (folder / "logistic.py").read_text() == file.read_text()


def test_threads_may_parse_at_the_same_time() -> None:
    files = sorted(model_file.MODELS.parent.rglob("*.py"))[:40]
    with ThreadPoolExecutor(8) as pool:
        trees = list(pool.map(model_file.tree_of, files * 4))
    assert len(trees) == 4 * len(files)
