"""Whether a value fits a setting, and what it is in the setting's type."""

import dataclasses
import math
from typing import Any

from src import files
from src.schema import LARGEST, TYPE_NAMES

Setting = dataclasses.Field[Any]


def objection(setting: Setting, value: Any) -> str:
    """Why the setting cannot have this value, or ''."""
    limits = setting.metadata
    if not _is_of_type(setting.type, value):
        hint = '; in YAML a bare ~ is nothing: write "~"' if limits.get("is_path") and value is None else ""
        return f"must be {TYPE_NAMES[setting.type]}{hint}"
    if "choices" in limits and value not in limits["choices"]:
        return f"must be one of {', '.join(limits['choices'])}"
    if "length" in limits and len(value) != limits["length"]:
        return f"must be {limits['length']} numbers"
    for number in value if isinstance(value, list) else [value]:
        if "minimum" in limits and number < limits["minimum"]:
            return f"must be at least {limits['minimum']}"
        if "above" in limits and number <= limits["above"]:
            return f"must be above {limits['above']}"
        below = limits.get("below", LARGEST if setting.type is int else None)
        if below is not None and number >= below:
            return f"must be below {below}"
    if limits.get("is_path") and "\0" in str(value):
        return "must be a path"
    if limits.get("is_name") and (value in (".", "..") or "/" in str(value) or "\0" in str(value)):
        return "must be the name of a folder, not a path; run.root= says where it is"
    return ""


def _is_of_type(kind: object, value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return is_number and isinstance(value, int)
    if kind is float:
        return is_number and math.isfinite(value)
    if kind is bool:
        return isinstance(value, bool)
    if kind is str:
        return is_number or isinstance(value, str)
    if kind == list[float]:
        return isinstance(value, list) and all(_is_of_type(float, item) for item in value)
    return isinstance(value, list) and all(isinstance(item, str | int | float) for item in value)


def converted(setting: Setting, name: str, value: Any) -> Any:
    """A value that fits, in the setting's type: 3 is 3.0 where a number is wanted, and "3" where text is; `~` is the
    home folder in a path. Raises UserError, which names the setting, where there is none.
    """
    value = _in_type(setting.type, value)
    return _expanded(name, value) if setting.metadata.get("is_path") else value


def _in_type(kind: object, value: Any) -> Any:
    if kind in (float, str):
        return kind(value)
    if isinstance(value, list):
        return [float(item) if kind == list[float] else str(item) for item in value]
    return value


def _expanded(name: str, value: Any) -> Any:
    """The path, or the paths in a list, with `~` replaced by the home folder. Raises UserError."""
    if isinstance(value, list):
        return [_expanded(name, item) for item in value]
    return files.expanded(value, name)
