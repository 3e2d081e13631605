"""The settings of a run: the command line, the YAML file, and the one-line errors.

Order: the defaults of schema.py < `config=FILE` < `key=value` on the command line. A value that cannot be used is
a `UserError` with the dotted key, the value and what is allowed, raised before torch is even imported.
"""

import dataclasses
import difflib
import json
import math
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf  # noqa: TID251
from omegaconf.errors import OmegaConfBaseException  # noqa: TID251
from yaml import YAMLError

from src.errors import UserError
from src.schema import KEYS, LARGEST, Config, value_of


def parse(arguments: list[str]) -> Config:
    """Read a command line such as `["config=configs/best.yaml", "train.epochs=3"]`.

    Raises UserError for anything that cannot be used.
    """
    pairs = [_split(argument) for argument in arguments]
    files = [value for name, value in pairs if name == "config"]
    if "" in files:
        raise UserError("config=: names no file", fix="write config=FILE.yaml")
    if len(files) > 1:
        raise UserError(f"config= is given {len(files)} times ({', '.join(files)}): give one file")
    settings = OmegaConf.structured(Config)
    for file in files:
        for name, value in _read(Path(file)):
            _assign(settings, name, value, f"{file}: ")
    for name, value in pairs:
        if name != "config":
            _assign(settings, name, _literal(name, value), "")
    return typing.cast(Config, OmegaConf.to_object(settings))


def load(file: Path) -> Config:
    """Read a resolved config.yaml. Raises UserError."""
    return parse([f"config={file}"])


def as_yaml(settings: Config) -> str:
    """The resolved settings as YAML without secrets; `config=` reads it back."""
    return without_secrets(str(OmegaConf.to_yaml(OmegaConf.structured(settings))))


def as_dict(settings: Config) -> dict[str, dict[str, Any]]:
    """The resolved settings as plain nested dicts, without secrets."""
    plain = dataclasses.asdict(settings)
    plain["data"]["mirrors"] = [without_secrets(mirror) for mirror in settings.data.mirrors]
    return plain


def without_secrets(text: str) -> str:
    """The text with user and password taken out of every address (a mirror may have them)."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)


def help_text() -> str:
    """Every key with its type, default and meaning."""
    lines = ["torchrun --nproc_per_node=4 -m src.train [config=FILE.yaml] [key=value ...]", ""]
    for name, setting in KEYS.items():
        allowed = "|".join(setting.metadata.get("choices", ())) or _type_name(setting)
        default = json.dumps(value_of(Config(), name))
        lines.append(f"  {name:27} {setting.metadata['meaning']} ({allowed}; default {default})")
    return "\n".join(lines)


def _split(argument: str) -> tuple[str, str]:
    name, equals, value = argument.partition("=")
    bare = name.lstrip("-")
    if name != bare or not equals or not name:
        close = _nearest(bare) if bare else ""
        advice = f"write {close or bare or 'key'}={value or 'VALUE'}"
        raise UserError(f"{argument}: settings are key=value without dashes", fix=f"{advice} (--help lists all keys)")
    return name, value


def _nearest(name: str) -> str:
    """The key that was probably meant, on whatever level, or ''."""
    last = {dotted.split(".")[1]: dotted for dotted in reversed(KEYS)}
    if (leaf := name.split(".")[-1]) in last:
        return last[leaf]
    if close := difflib.get_close_matches(name, KEYS, n=1, cutoff=0.6):
        return str(close[0])
    close = difflib.get_close_matches(leaf, last, n=1, cutoff=0.7)
    return last[close[0]] if close else ""


def _read(file: Path) -> Iterator[tuple[str, Any]]:
    """The (dotted key, value) pairs of a YAML file."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(file))
    except OSError as error:
        raise UserError(f"config={file}: cannot be read ({error.strerror})") from None
    except (YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        raise UserError(f"config={file}: is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"config={file}: must hold sections such as `train:` with keys below them")
    sections = {name.split(".")[0] for name in KEYS}
    for section, body in content.items():
        if isinstance(body, dict):
            yield from ((f"{section}.{name}", value) for name, value in body.items())
        elif section not in sections:
            yield str(section), body
        elif body is not None:  # nothing below it, or comments alone, changes nothing
            raise UserError(f"config={file}: {section}: {body}: must hold keys, such as `{_first_of(section)}`")


def _first_of(section: str) -> str:
    """The section's first setting with its default, as YAML."""
    name = next(name for name in KEYS if name.startswith(f"{section}."))
    return f"{name.split('.')[1]}: {value_of(Config(), name)}"


def _literal(name: str, text: str) -> Any:
    """The value of `name=text`: text stays text, everything else is read as YAML."""
    if name in KEYS and KEYS[name].type is str:
        return text
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))["value"]
    except (YAMLError, OmegaConfBaseException):
        return text


def _assign(settings: Any, name: str, value: Any, origin: str) -> None:
    if name not in KEYS:
        close = _nearest(name)
        hint = f"did you mean {close}?" if close else "--help lists all keys"
        raise UserError(f"{origin}{name}={value}: unknown key", fix=f"{hint}")
    if reason := _objection(KEYS[name], value):
        raise UserError(f"{origin}{name}={'' if value is None else value}: {reason}")
    try:
        OmegaConf.update(settings, name, value)
    except OmegaConfBaseException:
        expected = _type_name(KEYS[name])
        raise UserError(f"{origin}{name}={value}: must be {expected}") from None


def _objection(setting: "dataclasses.Field[Any]", value: Any) -> str:
    """Why the setting cannot have this value, or ''."""
    limits, expected = setting.metadata, f"must be {_type_name(setting)}"
    if setting.type is int:
        right = isinstance(value, int) and not isinstance(value, bool)
    elif setting.type is float:
        right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    elif setting.type is str:
        right = isinstance(value, str | int | float) and not isinstance(value, bool)
    else:
        right = isinstance(value, list) and all(isinstance(item, str | int | float) for item in value)
    if not right:
        return expected
    if "choices" in limits and value not in limits["choices"]:
        return f"must be one of {', '.join(limits['choices'])}"
    if "minimum" in limits and value < limits["minimum"]:
        return f"must be at least {limits['minimum']}"
    if "above" in limits and value <= limits["above"]:
        return f"must be above {limits['above']}"
    below = limits.get("below", LARGEST if setting.type is int else None)
    if below is not None and value >= below:
        return f"must be below {below}"
    return ""


def _type_name(setting: "dataclasses.Field[Any]") -> str:
    names = {int: "an integer", float: "a number", str: "text"}
    return names.get(typing.cast(type, setting.type), "a list such as [a,b]")
