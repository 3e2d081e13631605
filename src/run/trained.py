"""A run's trained model, read back: what every command that uses one begins with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from src import config
from src.errors import Damaged, UserError
from src.models import logistic
from src.run import archive, checkpoint
from src.run.layout import read_status
from src.schema import Config


@dataclass(frozen=True)
class Trained:
    """The run's settings, its module with the weights of `checkpoint`, and what status.json says."""

    path: Path
    settings: Config
    module: nn.Module
    checkpoint: Path
    status: dict[str, Any]


def load(path: Path, overrides: list[str] | None = None, best: bool = True) -> Trained:
    """Read a run: its best checkpoint where it has one and `best`, else its newest one.

    Raises UserError for what is no run or has none.
    """
    if not (path / "config.yaml").is_file():
        raise UserError(f"{path}: is no run (no config.yaml there)", fix="name a folder such as runs/mnist-1c995512")
    settings = config.parse([f"config={path / 'config.yaml'}", *(overrides or [])])
    file, content = _read(path, best)
    module = logistic.build(settings.train.seed)
    try:
        module.load_state_dict(content["model"])
    except RuntimeError:
        raise UserError(f"{file}: its weights do not fit the model: check out the code that trained it") from None
    module.eval()
    return Trained(path, settings, module, file, read_status(path))


def _read(path: Path, best: bool) -> tuple[Path, dict[str, Any]]:
    folder, problem = path / "checkpoints", "no checkpoint there"
    newest_first = sorted(folder.glob("step-*.pt"), reverse=True)
    for file in [folder / checkpoint.BEST, *newest_first] if best else newest_first:
        if file.exists():
            try:
                return file, archive.read(file)
            except Damaged as error:
                problem = str(error)
    raise UserError(f"{path}: has no weights yet ({problem})", fix="train it first: it saves after each epoch")
