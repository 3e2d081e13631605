"""Importing a model's file, and holding it against the contract."""

import dataclasses
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from src import model_file
from src.models.contract import Model
from src.models.kinds import kind_of

REQUIRED = {"build": 2, "loss": 3}  # how many arguments the job calls each with
OPTIONAL = {
    "measure": 3,
    "gradients": 3,
    "augment": 3,
    "parameter_groups": 2,
    "probabilities": 2,
    "prepare": 2,
    "enough": 1,
}


def load(path: Path, values: dict[str, Any]) -> Model:
    """Import a model's file, with the values of its settings.

    Raises UserError, which says the name, what was found and what is expected, where it breaks the contract.
    """
    module = _imported(path)
    model = Model(path, module, _settings(path, module, values))
    for name, arguments in (REQUIRED | OPTIONAL).items():
        value = getattr(module, name, None)
        if value is None and name not in REQUIRED:
            continue
        if not callable(value):
            is_missing = "is missing" if value is None else f"is {kind_of(value)}"
            raise model.broken(name, is_missing, f"a function of {arguments} arguments")
        if not _takes(value, arguments):
            raise model.broken(name, f"has the signature {inspect.signature(value)}", f"{arguments} arguments")
    return model


def _settings(path: Path, module: ModuleType, values: dict[str, Any]) -> Any:
    """An object of the file's class Settings, None where it has none."""
    settings = getattr(module, model_file.SETTINGS, None)
    if settings is None:
        return None
    # As `model_file.settings_of` reads it: the decorator may be left out.
    made: Any = settings if dataclasses.is_dataclass(settings) else dataclasses.dataclass(settings)
    with Model(path, module, None).user_code():
        return made(**values)


def _imported(path: Path) -> ModuleType:
    name = f"src.models.{path.stem}" if path.parent == model_file.MODELS else f"model_{path.stem}"
    if str(path.parent) not in sys.path and path.parent != model_file.MODELS:
        sys.path.insert(0, str(path.parent))  # for the local modules that it imports
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    with Model(path, module, None).user_code():
        spec.loader.exec_module(module)
    return module


def _takes(function: Callable[..., Any], arguments: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except TypeError:
        return False
    return True
