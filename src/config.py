"""Every setting: its type, default, range and reason; the command line; the one-line errors.

Order: the defaults below < `config=FILE` < `key=value` on the command line. A value that cannot be used is
a `UserError` with the dotted key, the value and what is allowed, raised before torch is even imported.
"""

import dataclasses
import difflib
import hashlib
import json
import math
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf  # noqa: TID251
from omegaconf.errors import OmegaConfBaseException  # noqa: TID251
from yaml import YAMLError

LARGEST = 2**31  # integers are below it, unless they say otherwise


class UserError(ValueError):
    """A mistake that the user can mend: the message is one clear line, the exit code is 2, no traceback."""


class JobFailed(RuntimeError):
    """The job cannot go on, and the message says all: one line, exit code 1, no traceback."""


def key(default: Any, meaning: str, **limits: Any) -> Any:
    """Make one setting: its default, its one-line meaning and its limits.

    Limits: `choices` (allowed values), `minimum` (smallest allowed), `above` (must be larger),
    `below` (must be smaller), `shapes` (True if the trained weights depend on it, else it only
    observes, prolongs or places the run).
    """
    metadata = {"meaning": meaning, **limits}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Data:
    """What to train on."""

    name: str = key(
        "mnist",
        "data set; idx = your own four IDX files in <root>/IDX/raw",
        choices=("mnist", "fashion_mnist", "kmnist", "digits", "idx"),
        shapes=True,
    )
    root: str = key("data", "folder of the data sets, in torchvision's layout (<root>/MNIST/raw/...)")
    mirrors: list[str] = key([], "URLs or folders with the .gz files, tried before torchvision's mirrors")
    fallback: str = key(
        "digits", "with no files and no mirror: train on rendered digits, or stop", choices=("digits", "none")
    )


@dataclass
class Train:
    """How to train, and on what."""

    epochs: int = key(10, "passes over the training set", minimum=1)
    global_batch_size: int = key(64, "samples per step, summed over all ranks", minimum=1, shapes=True)
    loss: str = key(
        "bce",
        "bce = sigmoid + binary cross-entropy; cross_entropy = softmax",
        choices=("bce", "cross_entropy"),
        shapes=True,
    )
    seed: int = key(0, "seed of the weights and of every epoch's order", minimum=0, below=2**63, shapes=True)
    sync: str = key(
        "ddp",
        "ddp = DistributedDataParallel; bitwise = same weights, bit for bit, on any number of ranks",
        choices=("ddp", "bitwise"),
        shapes=True,
    )
    shards: int = key(8, "bitwise: fixed parts of each batch, and the most ranks it can use", minimum=1)
    exchange: str = key(
        "auto",
        "how CPU ranks sum gradients: auto = shared memory where it works, else gloo",
        choices=("auto", "shared_memory", "backend"),
    )
    device: str = key("auto", "auto = a GPU for each rank if there are enough", choices=("auto", "cpu", "cuda"))
    threads: int = key(1, "CPU threads per rank; more is slower for a small model", minimum=1)
    timeout_seconds: float = key(300.0, "longest wait for another rank before the job fails", above=0)
    max_minutes: float = key(0.0, "save and stop after so many minutes; 0 = no limit", minimum=0)


@dataclass
class Optim:
    """How the weights move."""

    name: str = key("sgd", "optimizer", choices=("sgd", "adamw"), shapes=True)
    lr: float = key(0.01, "learning rate (peak, where a schedule changes it)", above=0, below=3e38, shapes=True)
    momentum: float = key(0.0, "momentum of sgd, first beta of adamw", minimum=0, below=1, shapes=True)
    weight_decay: float = key(0.0, "L2 penalty (sgd) or decoupled decay (adamw)", minimum=0, below=3e38, shapes=True)
    schedule: str = key(
        "constant",
        "constant, or cosine or linear down to 0 at the last step",
        choices=("constant", "cosine", "linear"),
        shapes=True,
    )
    warmup_steps: int = key(0, "steps of linear warm-up from 0 to lr", minimum=0, shapes=True)


@dataclass
class Checkpoint:
    """What is kept, and where training goes on from."""

    every_steps: int = key(0, "save every so many steps; 0 = only by epochs", minimum=0)
    every_epochs: int = key(1, "save every so many epochs; 0 = only by steps and at the end", minimum=0)
    keep: int = key(3, "newest checkpoints kept, beside best.pt", minimum=1)
    resume: str = key("auto", "auto = newest good checkpoint; never = start afresh; or a checkpoint's path")


@dataclass
class Run:
    """Where the run is written."""

    root: str = key("runs", "folder of all runs")
    name: str = key("", "folder of this run; empty = data set and a fingerprint of what shapes the result")


@dataclass
class Log:
    """What is printed, and how often."""

    every: int = key(100, "steps between lines of metrics.jsonl", minimum=1)
    seconds: float = key(2.0, "seconds between lines in a log file; a terminal has a live bar", minimum=0)


@dataclass
class Track:
    """Weights & Biases."""

    wandb: str = key(
        "auto",
        "auto = online if a key is set up, else offline",
        choices=("auto", "online", "offline", "disabled"),
    )
    project: str = key("distributed-training-job", "project")
    entity: str = key("", "user or team; empty = the key's own")
    group: str = key("", "group of runs")
    tags: list[str] = key([], "tags")
    notes: str = key("", "notes")
    timeout_seconds: float = key(30.0, "longest that tracking may delay the start or the end", above=0)


@dataclass
class Config:
    """All settings."""

    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    optim: Optim = field(default_factory=Optim)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    run: Run = field(default_factory=Run)
    log: Log = field(default_factory=Log)
    track: Track = field(default_factory=Track)


def keys() -> Iterator[tuple[str, "dataclasses.Field[Any]"]]:
    """Every (dotted key, dataclass field), in the order of the schema."""
    for section in dataclasses.fields(Config):
        for setting in dataclasses.fields(typing.cast(Any, section.type)):
            yield f"{section.name}.{setting.name}", setting


KEYS = dict(keys())


def parse(arguments: list[str]) -> Config:
    """Read a command line such as `["config=configs/best.yaml", "train.epochs=3"]`.

    Raises UserError for anything that cannot be used.
    """
    pairs = [_split(argument) for argument in arguments]
    files = [value for name, value in pairs if name == "config"]
    if "" in files:
        raise UserError("config=: names no file; write config=FILE.yaml")
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


def shaping(settings: Config) -> dict[str, Any]:
    """The settings that the trained weights depend on, by dotted key.

    The number of epochs is one of them only where the schedule ends with the last step; the number of
    shards only where they fix the order of summation.
    """
    chosen = {name for name, setting in KEYS.items() if setting.metadata.get("shapes")}
    if settings.optim.schedule != "constant":
        chosen.add("train.epochs")
    if settings.train.sync == "bitwise":
        chosen.add("train.shards")
    if settings.checkpoint.resume not in ("auto", "never"):
        chosen.add("checkpoint.resume")
    return {name: value_of(settings, name) for name in KEYS if name in chosen}


def fingerprint(settings: Config) -> str:
    """Eight hex digits that differ where the trained weights would."""
    text = json.dumps(shaping(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def value_of(settings: Config, name: str) -> Any:
    """The value of a dotted key."""
    section, setting = name.split(".")
    return getattr(getattr(settings, section), setting)


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
        raise UserError(f"{argument}: settings are key=value without dashes; {advice} (--help lists all keys)")
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
        raise UserError(f"{origin}{name}={value}: unknown key; {hint}")
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
