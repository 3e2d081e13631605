"""A run's trained model, read back: what every command that uses one begins with."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from src import config, models
from src import model_file as model_files
from src.data import dataset as datasets
from src.data import kinds
from src.data.dataset import TestSet
from src.data.splits import Spec
from src.errors import Damaged, UserError
from src.models import Model
from src.run import archive, layout
from src.schema import Config
from src.world.world import World


@dataclass(frozen=True)
class Trained:
    """The run's settings, its model, the module with the weights of `checkpoint`, and what status.json says."""

    path: Path
    settings: Config
    model: Model
    module: nn.Module
    spec: Spec
    checkpoint: Path
    status: dict[str, Any]
    averaged: bool = False

    @property
    def origin(self) -> str:
        """Which weights they are, for people."""
        return f"{self.checkpoint}{', averaged' if self.averaged else ''}"


def load(
    path: Path,
    overrides: list[str] | None = None,
    best: bool = True,
    model_file: Path | None = None,
    averaged: bool = False,
) -> Trained:
    """Read a run: its best checkpoint where it has one and `best`, else its newest one.

    `model_file` is where the model's code is, if not where model.name says; `averaged` takes the weights of
    optim.average in place of those that were trained. Raises UserError for what is no run or
    has no weights, and for a model's file that is not the run's.
    """
    recorded = layout.load_settings(path)
    settings = config.parse([f"config={path / layout.CONFIG}", *(overrides or [])], recorded.model.file)
    file, content = _read(path, best)
    model = models.load(_model_of(path, settings, model_file), settings.model.settings)
    spec = Spec(**content["data"])
    module = model.build(spec, settings.train.seed)
    if averaged and not content.get("average"):
        raise UserError(f"{file}: holds no averaged weights", fix="they are kept with optim.average=HALF_LIFE")
    weights = content["model"]
    if averaged:
        weights = {name: content["average"]["model"].get(name, tensor) for name, tensor in weights.items()}
    try:
        module.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"{file}: its weights do not fit {model.path}", fix="check out the code that trained it"
        ) from None
    module.eval()
    return Trained(path, settings, model, module, spec, file, layout.read_status(path), averaged)


def test_of(run: Trained) -> TestSet:
    """The test samples that the run's settings mean, if they are of the kind that the model was trained on.

    Its other files need not be there, unless the test set is held out of them. Raises UserError; renders no digits in
    the place of what is not there.
    """
    data = dataclasses.replace(run.settings.data, fallback="none")
    if data.validation and not kinds.has_test(data):
        return datasets.load(data, World(), print).held_out(data.validation, run.settings.train.seed)
    return datasets.load_test(data, run.spec, print)


def _model_of(path: Path, settings: Config, chosen: Path | None) -> Path:
    """The model's file, if it is the one that the run was trained with. Raises UserError."""
    copy, code = layout.model_copy(path), layout.read_provenance(path).get("model", {}).get("sha256")
    try:
        file = model_files.find(str(chosen.absolute()) if chosen else settings.model.name)
    except UserError:
        if copy is None or chosen is not None:
            raise
        return copy  # the file has gone, or this is another machine
    if code is not None and model_files.code_sha256(file) != code:
        fix = f"the copy of the file that did: --model {copy}" if copy else "check out the code that trained it"
        raise UserError(f"{path}: {file} is not the file that trained it", fix=fix)
    return file


def _read(path: Path, best: bool) -> tuple[Path, dict[str, Any]]:
    folder, problem = path / layout.CHECKPOINTS, "no checkpoint there"
    newest_first = layout.newest_first(folder)
    for file in [folder / layout.BEST, *newest_first] if best else newest_first:
        if file.exists():
            try:
                return file, archive.read(file)
            except Damaged as error:
                problem = str(error)
    raise UserError(f"{path}: has no weights yet ({problem})", fix="train it first: it saves after each epoch")
