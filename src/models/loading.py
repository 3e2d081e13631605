"""Importing a model's file, and holding it against the contract."""

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from src import model_file
from src.models.contract import Model, kind_of

REQUIRED = {"build": 2, "loss": 3}  # how many arguments the job calls each with
OPTIONAL = {"measure": 3, "augment": 3, "parameter_groups": 2, "probabilities": 2, "prepare": 2}


def load(path: Path, values: dict[str, Any]) -> Model:
    """Import a model's file, with the values of its settings.

    Raises UserError, which says the name, what was found and what is expected, where it breaks the contract.
    """
    module = _imported(path)
    settings = getattr(module, model_file.SETTINGS, None)
    model = Model(path, module, settings(**values) if settings else None)
    for name, arguments in (REQUIRED | OPTIONAL).items():
        found = getattr(module, name, None)
        if found is None and name not in REQUIRED:
            continue
        if not callable(found):
            is_missing = "is missing" if found is None else f"is {kind_of(found)}"
            raise model.broken(name, is_missing, f"a function of {arguments} arguments")
        if not _takes(found, arguments):
            raise model.broken(name, f"has the signature {inspect.signature(found)}", f"{arguments} arguments")
    return model


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
