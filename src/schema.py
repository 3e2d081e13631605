"""Every setting: its type, default, range and reason, and whether the trained weights depend on it."""

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST = 10**9  # seconds, some 30 years: what threads and sockets can wait for
LARGEST = 2**31  # integers are below it, unless a setting has its own limit
TEXTS = ("text", "sums")  # data sets that are text
TEST, VALIDATION = "test", "validation"  # the samples that are measured; `kind` of such a line in metrics.jsonl
TYPES = (int, float, bool, str, list[str], list[float])
TYPE_NAMES: dict[object, str] = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "text",
    list[str]: "a list such as [a,b]",
    list[float]: "a list of numbers such as [0.9,0.95]",
}


def key(default: Any, meaning: str, **limits: Any) -> Any:
    """Make one setting: its default, its one-line meaning and its limits.

    Limits: `choices` (allowed values), `minimum` (smallest allowed), `above` (must be larger),
    `below` (must be smaller), `length` (of a list), `is_name` (a plain file name), `is_path` (`~` is the home folder),
    `fingerprinted` (True if the trained weights depend on it, else it only observes the run, prolongs it or moves it).
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
        "data set; folder = your own pictures in <root>/train/CLASS and <root>/test/CLASS, idx = your own four IDX "
        "files in <root>/IDX/raw, text = your own texts in <root>/text",
        choices=(
            *("mnist", "fashion_mnist", "kmnist"),
            *("emnist_letters", "emnist_balanced", "emnist_byclass", "emnist_bymerge", "emnist_digits", "emnist_mnist"),
            *("digits", "folder", "idx", "text", "sums"),
        ),
        fingerprinted=True,
    )
    root: str = key("data", "folder of the data sets, in torchvision's layout (<root>/MNIST/raw/...)", is_path=True)
    mirrors: list[str] = key([], "URLs or folders with the .gz files, tried before torchvision's mirrors", is_path=True)
    fallback: str = key(
        "digits",
        "with no files and no mirror: train on rendered digits (for text: rendered sums), or stop",
        choices=("digits", "none"),
    )
    validation: float = key(
        0.0,
        "hold out this share of the training samples, or so many if it is 1 or more, drawn by the seed: best.pt is "
        "chosen on them; 0 = on the test set",
        minimum=0,
        below=2**63,
    )
    image_size: int = key(
        0, "folder: both sides of a picture, which fills them; 0 = the size that all have", minimum=0, below=65536
    )
    block: int = key(64, "text: bytes of a sample; each has the byte that follows as its target", minimum=1)
    shuffle: str = key(
        "full",
        "full = any sample after any other; blocks = a few MB at a time, where random reads of much data are slow",
        choices=("full", "blocks"),
    )


@dataclass
class Model:
    """Which model, and the values of its own settings: the keys `model.*` are the fields of its class Settings."""

    name: str = key("logistic", "a file in src/models without .py, or the path of your own .py file", is_path=True)
    settings: dict[str, Any] = field(default_factory=dict)
    file: Path | None = None  # the copy in a run's folder, where that is read instead of the named file


@dataclass
class Train:
    """How to train, and on what."""

    epochs: int = key(10, "passes over the training set", minimum=1)
    global_batch_size: int = key(64, "samples per step, summed over all ranks", minimum=1, fingerprinted=True)
    seed: int = key(0, "seed of the weights and of every epoch's order", minimum=0, below=2**63, fingerprinted=True)
    sync: str = key(
        "ddp",
        "ddp = DistributedDataParallel; bitwise = same weights, bit for bit, on any number of ranks",
        choices=("ddp", "bitwise"),
        fingerprinted=True,
    )
    shards: int = key(8, "bitwise: fixed parts of each batch, and the most ranks it can use", minimum=1, below=4097)
    micro_batch_size: int = key(
        0, "ddp: samples that a rank computes at once, the gradients are added; 0 = its whole share", minimum=0
    )
    patience: int = key(
        0, "end after so many epochs in which no evaluation was the best so far; 0 = never early", minimum=0
    )
    max_steps: int = key(0, "end after so many steps, in the middle of an epoch too; 0 = by epochs alone", minimum=0)
    precision: str = key(
        "float32",
        "bfloat16 = autocast around forward and loss; weights, gradients and sums stay float32",
        choices=("float32", "bfloat16"),
        fingerprinted=True,
    )
    compile: bool = key(False, "compile the model with torch.compile, which needs a C++ compiler", fingerprinted=True)
    cuda_graph: bool = key(False, "GPU: replay a step's kernels instead of launching each, which helps small models")
    exchange: str = key(
        "auto",
        "how CPU ranks sum gradients: auto = shared memory where it works, else gloo",
        choices=("auto", "shared_memory", "backend"),
    )
    device: str = key(
        "auto", "auto = a GPU for each rank if there are enough, else the CPU", choices=("auto", "cpu", "cuda")
    )
    threads: int = key(1, "CPU threads per rank; more is slower for a small model", minimum=1, below=4097)
    timeout_seconds: float = key(300.0, "longest wait for another rank before the job fails", minimum=1, below=LONGEST)
    max_minutes: float = key(0.0, "save and stop after so many minutes; 0 = no limit", minimum=0)
    rehearsal: bool = key(True, "before the first step, try a step, an evaluation and a save on a few samples")


@dataclass
class Optim:
    """How the weights move."""

    name: str = key("sgd", "optimizer", choices=("sgd", "adamw"), fingerprinted=True)
    lr: float = key(0.01, "learning rate (peak, where a schedule changes it)", above=0, below=3e38, fingerprinted=True)
    momentum: float = key(0.0, "momentum of sgd", minimum=0, below=1, fingerprinted=True)
    nesterov: bool = key(False, "Nesterov's momentum for sgd", fingerprinted=True)
    betas: list[float] = key(
        [0.9, 0.999], "adamw: decay of the mean of gradients and of their squares", minimum=0, below=1, length=2
    )
    weight_decay: float = key(
        0.0, "L2 penalty (sgd) or decoupled decay (adamw)", minimum=0, below=3e38, fingerprinted=True
    )
    schedule: str = key(
        "constant",
        "constant; cosine or linear down to 0 at the last step; wsd = constant, then linear down to 0",
        choices=("constant", "cosine", "linear", "wsd"),
        fingerprinted=True,
    )
    decay_share: float = key(0.2, "wsd: the share of all steps in which it goes down", above=0, below=1.0001)
    warmup_steps: int = key(0, "steps of linear warm-up from 0 to lr", minimum=0, fingerprinted=True)
    clip_norm: float = key(0.0, "scale gradients down to this global norm; 0 = never", minimum=0, fingerprinted=True)
    average: float = key(
        0.0,
        "average the weights too, an exponential moving average with this half-life in samples; 0 = no",
        minimum=0,
        fingerprinted=True,
    )


@dataclass
class Evaluate:
    """When the weights are measured, and by which ranks."""

    every_epochs: int = key(1, "measure every so many epochs; 0 = only by steps and at the end", minimum=0)
    every_steps: int = key(0, "measure every so many steps; 0 = only by epochs", minimum=0)
    ranks: str = key(
        "first", "first = rank 0 measures, the others wait; all = each rank a share", choices=("first", "all")
    )


@dataclass
class Checkpoint:
    """What is kept, and where training goes on from."""

    every_steps: int = key(0, "save every so many steps; 0 = only by epochs", minimum=0)
    every_epochs: int = key(1, "save every so many epochs; 0 = only by steps and at the end", minimum=0)
    every_minutes: float = key(0.0, "save when so many minutes have passed since the last save; 0 = never", minimum=0)
    keep: int = key(3, "newest checkpoints kept, beside best.pt", minimum=1)
    resume: str = key(
        "auto", "auto = newest good checkpoint; never = start afresh; or a checkpoint's path", is_path=True
    )
    mirror: str = key(
        "",
        "URL of an object store (s3://bucket/prefix) that gets a copy of each save, and gives it back to an empty disk",
    )


@dataclass
class Run:
    """Where the run is written."""

    root: str = key("runs", "folder of all runs", is_path=True)
    name: str = key(
        "", "folder of this run; empty = data set and a fingerprint of what shapes the result", is_name=True
    )


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
        "auto = online if an API key is set up, else offline",
        choices=("auto", "online", "offline", "disabled"),
    )
    project: str = key("distributed-training-job", "W&B project")
    entity: str = key("", "W&B user or team; empty = the API key's own")
    group: str = key("", "W&B group, under which it shows runs together")
    tags: list[str] = key([], "W&B tags")
    notes: str = key("", "W&B notes: a text shown with the run")
    timeout_seconds: float = key(30.0, "longest wait for W&B at the start and at the end", above=0, below=LONGEST)


@dataclass
class Config:
    """All settings."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    train: Train = field(default_factory=Train)
    optim: Optim = field(default_factory=Optim)
    evaluate: Evaluate = field(default_factory=Evaluate)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    run: Run = field(default_factory=Run)
    log: Log = field(default_factory=Log)
    track: Track = field(default_factory=Track)


def keys() -> "Iterator[tuple[str, dataclasses.Field[Any]]]":
    """Every (dotted key, dataclass field) but the model's own, in the order of the schema."""
    for section in dataclasses.fields(Config):
        for setting in dataclasses.fields(typing.cast(Any, section.type)):
            if "meaning" in setting.metadata:
                yield f"{section.name}.{setting.name}", setting


KEYS = dict(keys())


def contradiction(settings: Config) -> tuple[str, str] | None:
    """Two settings that cannot both hold: what is wrong, and the way out."""
    train, optim = settings.train, settings.optim
    if optim.name == "adamw" and optim.momentum:
        return f"optim.momentum={optim.momentum:g}: adamw has none", "use optim.betas=[0.9,0.999]"
    if optim.nesterov and (optim.name != "sgd" or not optim.momentum):
        return "optim.nesterov=true: needs optim.name=sgd and a momentum", "give optim.momentum=0.9"
    if train.micro_batch_size and train.sync == "bitwise":
        message = f"train.micro_batch_size={train.micro_batch_size}: with train.sync=bitwise the shards are the micro-"
        return f"{message}batches", "raise train.shards instead: more shards are smaller ones"
    return None


def value_of(settings: Config, name: str) -> Any:
    """The value of a dotted key."""
    section, setting = name.split(".")
    if section == "model" and name not in KEYS:
        return settings.model.settings[setting]
    return getattr(getattr(settings, section), setting)
