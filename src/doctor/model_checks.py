"""Whether the model can be trained, measured, saved and exported, tried on a few samples."""

import importlib.util
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from src import config, model_file, models
from src.data import dataset as data
from src.data import kinds
from src.data.dataset import DataSet
from src.data.splits import Split
from src.doctor.findings import Finding, Plan, green, yellow
from src.doctor.host_checks import gpu_count
from src.errors import UserError
from src.export import formats
from src.gradients.graph import refuse_graph
from src.models import Model
from src.rehearsal import rehearse
from src.run.trained import Trained
from src.schema import Config
from src.world.world import World

SAMPLES = 16  # of noise, where the data set is not here
PARTS = "one step, an evaluation and a save"


def model(plan: Plan) -> Finding:
    """A step, an evaluation, a save and the exports of the model, on the data set, or on noise where it is missing."""
    settings = plan.settings
    samples = _data(settings)
    found = models.load(config.model_path(settings.model), settings.model.settings)
    generators = model_file.imports(found.path) & {"random", "numpy"}
    refuse_graph(settings.train, _device(plan), plan.ranks, generators)
    module = found.build(samples.spec, settings.train.seed)
    found.check(module, *samples.train.first(2, torch.device("cpu")))
    rehearse(found, module, samples, settings, torch.device("cpu"), SAMPLES)
    exported, problems = _export(settings, found, module, samples)
    text = f"{found.path.stem}: {sum(parameter.numel() for parameter in module.parameters()):,} parameters; "
    text += f"{', '.join([PARTS, *exported])} work{'' if samples.name else ' on noise: the data set is not here'}"
    return yellow(f"{text}; {problems}", "no action needed to train") if problems else green(text)


def _device(plan: Plan) -> torch.device:
    """The kind of device that the job would train on."""
    return torch.device("cuda" if 0 < plan.ranks <= gpu_count(plan) else "cpu")


def _data(settings: Config) -> DataSet:
    chosen = settings.data
    if not kinds.missing(chosen):
        return data.load(chosen, World(), lambda _: None).held_out(chosen.validation, settings.train.seed)
    spec = kinds.kind_of(chosen).assumed(chosen)
    noise = Split(
        _noise(spec.shape, spec.dtype, 256), _noise(spec.target_shape, spec.target_dtype, spec.classes or 256)
    )
    return DataSet(name="", train=noise, test=noise, spec=spec, checksums={})


def _noise(shape: tuple[int, ...], dtype: torch.dtype, below: int) -> Tensor:
    """(SAMPLES, *shape), always the same."""
    return torch.randint(0, below, (SAMPLES, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)


def _export(settings: Config, found: Model, module: nn.Module, samples: DataSet) -> tuple[list[str], str]:
    """(formats that the model can be written in, what is wrong with others); none where the packages are missing."""
    if not all(importlib.util.find_spec(package) for package in ("safetensors", "onnx", "onnxruntime")):
        return [], ""
    written, problems = [], ""
    with tempfile.TemporaryDirectory(prefix="doctor-") as folder:
        run = Trained(Path(folder), settings, found, module.eval(), samples.spec, Path("new"), {})
        for name, write in formats.WRITERS.items():
            try:
                write(run, Path(folder) / name, {})
                written.append(f"an export to {name}")
            except (UserError, formats.Differs) as error:
                problems = str(error)
    return written, problems
