"""The settings of a run: the command line, the YAML file, and the one-line errors.

Order: the defaults of schema.py and of the model's file < `config=FILE` < `key=value` on the command line. A value
that cannot be used is a `UserError` with the dotted key, the value and what is allowed, raised before torch is even
imported.
"""

import dataclasses
import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf  # noqa: TID251
from omegaconf.errors import OmegaConfBaseException  # noqa: TID251
from yaml import YAMLError

from src import files, model_file, values, yaml_text
from src.addresses import without_secrets, without_users
from src.errors import UserError
from src.schema import KEYS, TYPE_NAMES, Config, Model, contradiction, value_of

Keys = dict[str, "dataclasses.Field[Any]"]


DRY_RUN = "--dry-run"  # the one flag of the job beside --help


class _Variable(str):
    """The text of an environment variable in a file: it is read as on the command line."""


def parse(arguments: list[str], model: Path | None = None) -> Config:
    """Read a command line such as `["config=configs/best.yaml", "train.epochs=3"]`.

    `model` is the model's file, where it is not the one that model.name means. Raises UserError for anything that
    cannot be used.
    """
    given = [(name, value, "") for name, value in map(_split, arguments)]
    named = [value for name, value, _ in given if name == "config"]
    if "" in named:
        raise UserError("config=: names no file", fix="write config=FILE.yaml")
    if len(named) > 1:
        raise UserError(f"config= is given {len(named)} times ({', '.join(named)}): give one file")
    entries = [
        (name, value, f"{file}: ") for file in named for name, value in _read(Path(files.expanded(file, "config")))
    ]
    typed = {name for name, _, _ in given}
    entries += [entry for entry in given if entry[0] != "config"]
    settings = Config()
    for name, value, origin in entries:
        if name == "model.name":
            _assign(settings, KEYS, name, value, origin)
    if model is not None:
        settings.model.file = model
    keys = keys_of(settings.model)
    settings.model.settings = {
        name.removeprefix("model."): model_file.default_of(field) for name, field in keys.items() if name not in KEYS
    }
    for name, value, origin in entries:
        text = isinstance(value, _Variable) or (not origin and name in typed)
        _assign(settings, keys, name, _literal(keys, name, value) if text else value, origin)
    if problem := contradiction(settings):
        raise UserError(problem[0], fix=problem[1])
    return settings


def without_dry_run(arguments: list[str]) -> tuple[list[str], bool]:
    """(the settings of a command line of the job, whether --dry-run is among them)."""
    return [word for word in arguments if word != DRY_RUN], DRY_RUN in arguments


def keys_of(model: Model) -> Keys:
    """Every key: those of the schema, and those of the model's own file. Raises UserError."""
    model_keys = {f"model.{name}": field for name, field in model_file.settings_of(model_path(model)).items()}
    keys: Keys = {}
    for name, field in KEYS.items():
        keys[name] = field
        if name == "model.name":
            keys |= model_keys
    return keys


def model_path(model: Model) -> Path:
    """Where the model's code is. Raises UserError."""
    return model.file or model_file.find(model.name)


def load(file: Path, model: Path | None = None) -> Config:
    """Read a resolved config.yaml. Raises UserError."""
    return parse([f"config={file}"], model)


def as_yaml(settings: Config) -> str:
    """The resolved settings as YAML without secrets; `config=` reads it back."""
    return yaml_text.write(as_dict(settings))


def as_dict(settings: Config) -> dict[str, dict[str, Any]]:
    """The resolved settings as plain nested dicts, without secrets."""
    plain = dataclasses.asdict(settings)
    plain["model"] = {"name": settings.model.name} | settings.model.settings
    plain = {
        section: {name: without_users(value) for name, value in values.items()} for section, values in plain.items()
    }
    plain["data"]["mirrors"] = [without_secrets(mirror) for mirror in settings.data.mirrors]
    plain["checkpoint"]["mirror"] = without_secrets(settings.checkpoint.mirror)
    return plain


def help_text(arguments: list[str]) -> str:
    """Every key with its type, default and meaning; those of the model that `arguments` name among them.

    Raises UserError for a model that is not there.
    """
    names = [value for name, _, value in (argument.partition("=") for argument in arguments) if name == "model.name"]
    model = Model(name=names[-1]) if names else Model()
    rest = "[--dry-run] [config=FILE.yaml] [key=value ...]"
    lines = [f"torchrun --nproc_per_node=4 -m src.train {rest}", f"launch/local.sh [ranks] {rest}", ""]
    lines += [f"  {DRY_RUN:27} say what would happen, after a few steps in memory; write nothing", ""]
    for name, setting in keys_of(model).items():
        allowed = "|".join(setting.metadata.get("choices", ())) or TYPE_NAMES[setting.type]
        default = json.dumps(model_file.default_of(setting))
        meaning = setting.metadata.get("meaning", f"of {model_path(model).name}")
        lines.append(f"  {name:27} {meaning} ({allowed}; default {default})")
    return "\n".join(lines)


def _split(argument: str) -> tuple[str, str]:
    name, equals, value = argument.partition("=")
    bare = name.lstrip("-")
    if name != bare or not equals or not name:
        close = _nearest(KEYS, bare) if bare else ""
        advice = f"write {close or bare or 'key'}={value or 'VALUE'}"
        raise UserError(
            without_secrets(f"{argument}: settings are key=value without dashes"),
            fix=without_secrets(f"{advice} (--help lists all keys)"),
        )
    if any("\ud800" <= letter <= "\udfff" for letter in argument):  # bytes that Python could not decode
        encoding = sys.getfilesystemencoding()
        raise UserError(f"{argument!a}: is not {encoding}", fix="set LC_ALL=C.UTF-8, or write it in UTF-8")
    return name, value


def _nearest(keys: Keys, name: str) -> str:
    """The key that was probably meant, on whatever level, or ''."""
    last = {dotted.split(".")[1]: dotted for dotted in reversed(keys)}
    if (leaf := name.split(".")[-1]) in last:
        return last[leaf]
    if close := difflib.get_close_matches(name, keys, n=1, cutoff=0.6):
        return str(close[0])
    close = difflib.get_close_matches(leaf, last, n=1, cutoff=0.7)
    return last[close[0]] if close else ""


def _read(file: Path) -> Iterator[tuple[str, Any]]:
    """The (dotted key, value) pairs of a YAML file. Raises UserError."""
    try:
        content = yaml_text.read(file.read_bytes())
    except OSError as error:
        raise UserError(f"config={file}: cannot be read ({files.reason(error)})") from None
    except (YAMLError, ValueError, RecursionError) as error:
        reason = without_secrets(" ".join(str(error).split()))
        raise UserError(f"config={file}: is no valid YAML: {reason}") from None
    if content is None:
        return
    if not isinstance(content, dict):
        raise UserError(f"config={file}: must hold sections such as `train:` with keys below them")
    sections = {name.split(".")[0] for name in KEYS}
    for section, body in content.items():
        if isinstance(body, dict):
            yield from ((name := f"{section}.{key}", _resolved(file, name, value)) for key, value in body.items())
        elif section not in sections:
            yield str(section), body
        elif body is not None:  # an empty section is allowed
            text = without_secrets(f"config={file}: {section}: {body}: must hold keys")
            raise UserError(f"{text}, such as `{_first_of(str(section))}`")


def _resolved(file: Path, name: str, value: Any) -> Any:
    """The value with `${oc.env:NAME}` replaced by the variable. Raises UserError."""
    if isinstance(value, list):
        return [_resolved(file, name, item) for item in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    try:
        text = OmegaConf.create({"value": yaml_text.only_environment(value)})["value"]
    except OmegaConfBaseException as error:
        reason = " ".join(str(error).partition("full_key:")[0].rpartition("interpolation: ")[2].split()).strip('"')
        fix = "write ${oc.env:NAME} or ${oc.env:NAME,DEFAULT}"
        raise UserError(f"config={file}: {name}: {without_secrets(value)}: {without_secrets(reason)}", fix) from None
    return _Variable(text) if "${oc.env:" in value and isinstance(text, str) else text


def _first_of(section: str) -> str:
    """The section's first setting with its default, as YAML."""
    name = next(name for name in KEYS if name.startswith(f"{section}."))
    return f"{name.split('.')[1]}: {value_of(Config(), name)}"


def _literal(keys: Keys, name: str, text: str) -> Any:
    """The value of `name=text`: text stays text, everything else is read as YAML."""
    if name in keys and keys[name].type is str:
        return text
    try:
        return yaml_text.read(str(text))
    except (YAMLError, ValueError, RecursionError):
        return text


def _assign(settings: Config, keys: Keys, name: str, value: Any, origin: str) -> None:
    if name not in keys:
        close = _nearest(keys, name)
        hint = f"did you mean {close}?" if close else "--help lists all keys"
        raise UserError(without_secrets(f"{origin}{name}={value}: unknown key"), fix=hint)
    if reason := values.objection(keys[name], value):
        raise UserError(without_secrets(f"{origin}{name}={'' if value is None else value}") + f": {reason}")
    section, setting = name.split(".")
    value = values.converted(keys[name], name, value)
    if name in KEYS:
        setattr(getattr(settings, section), setting, value)
    else:
        settings.model.settings[setting] = value
