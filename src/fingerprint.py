"""What the trained weights depend on: settings, and the code of the model. Two runs differ where this differs."""

import hashlib
import json
from typing import Any

from src import model_file
from src.config import model_path
from src.schema import KEYS, TEXTS, Config, value_of

CODE = "model.code"


def shaping(settings: Config, code: str = "") -> dict[str, Any]:
    """The settings that the trained weights depend on, by dotted key, and the hash of the model's code.

    The length of the training is one of them only where the schedule ends with the last step, the number of shards
    only where they fix the order of summation, the length of a block only where the data are text, data.shuffle only
    where it is not the default, and so on. `code` is the hash where it is known already.
    """
    chosen = {name for name, setting in KEYS.items() if setting.metadata.get("fingerprinted")}
    if settings.optim.schedule != "constant":
        chosen |= {"train.epochs"} | ({"train.max_steps"} if settings.train.max_steps else set())
    chosen |= {"optim.decay_share"} if settings.optim.schedule == "wsd" else set()
    chosen |= {"optim.betas"} if settings.optim.name == "adamw" else set()
    chosen |= {"data.validation"} if settings.data.validation else set()
    chosen |= {"data.image_size"} if settings.data.name == "folder" else set()
    chosen |= {"data.block"} if settings.data.name in TEXTS else set()
    chosen |= {"data.shuffle"} if settings.data.shuffle != "full" else set()
    chosen.add("train.shards" if settings.train.sync == "bitwise" else "train.micro_batch_size")
    if settings.checkpoint.resume not in ("auto", "never"):
        chosen.add("checkpoint.resume")
    path = model_path(settings.model)
    values = {name: value_of(settings, name) for name in KEYS if name in chosen}
    values |= {"model.name": path.stem, CODE: code or model_file.code_sha256(path)}
    return values | {f"model.{name}": value for name, value in sorted(settings.model.settings.items())}


def fingerprint(settings: Config) -> str:
    """Eight hex digits that differ where the trained weights would."""
    text = json.dumps(shaping(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
