"""Importing a model's file from anywhere, with the modules beside it."""

from pathlib import Path

import pytest
import torch

from src import models
from src.data.splits import Spec
from src.errors import ModelFailed

SPEC = Spec((4,), torch.uint8, 3)
HEAD = "import torch\nfrom torch import nn\nfrom torch.nn import functional\n"
LOSS = "def loss(module, inputs, targets):\n    return module(inputs).sum(), len(targets)\n"


def loaded(folder: Path, *parts: str) -> models.Model:
    """A file of these parts, loaded."""
    (folder / "mine.py").write_text("\n".join([HEAD, *parts]))
    return models.load(folder / "mine.py", {})


def test_a_file_that_cannot_be_imported_shows_its_own_traceback(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed) as error:
        loaded(tmp_path, "import no_such_module")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in error.value.traceback


def test_local_modules_beside_the_file_are_imported(tmp_path: Path) -> None:
    (tmp_path / "my_layers.py").write_text("from torch import nn\nLayer = nn.Linear\n")
    model = loaded(tmp_path, "import my_layers", "def build(settings, data):\n    return my_layers.Layer(4, 3)\n", LOSS)
    assert isinstance(model.build(SPEC, 0), torch.nn.Linear)


@pytest.mark.parametrize("decorator", ["@dataclass\n", ""])
def test_settings_are_the_file_s_own_class_with_the_given_values(decorator: str, tmp_path: Path) -> None:
    settings = f"from dataclasses import dataclass\n{decorator}class Settings:\n    width: int = 3\n"
    build = "def build(settings, data):\n    return nn.Linear(4, settings.width)\n"
    (tmp_path / "mine.py").write_text("\n".join([HEAD, settings, build, LOSS]))
    built = models.load(tmp_path / "mine.py", {"width": 7}).build(SPEC, 0)
    assert isinstance(built, torch.nn.Linear)
    assert built.out_features == 7


def test_two_files_of_one_name_are_two_models(tmp_path: Path) -> None:
    for folder, width in (("a", 2), ("b", 5)):
        (tmp_path / folder).mkdir()
        model = loaded(tmp_path / folder, f"def build(settings, data):\n    return nn.Linear(4, {width})\n", LOSS)
        built = model.build(SPEC, 0)
        assert isinstance(built, torch.nn.Linear)
        assert built.out_features == width


def test_settings_that_refuse_their_values_show_why(tmp_path: Path) -> None:
    settings = (
        "from dataclasses import dataclass\n@dataclass\nclass Settings:\n    width: int = 3\n"
        "    def __post_init__(self):\n        raise ValueError(f'{self.width} is odd')\n"
    )
    (tmp_path / "mine.py").write_text("\n".join([HEAD, settings, LOSS]))
    with pytest.raises(ModelFailed, match="ValueError: 7 is odd"):
        models.load(tmp_path / "mine.py", {"width": 7})
