"""A run's weights in a file for other programs, kept only if it computes what torch computes."""

import json
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from src import files
from src.data.splits import Split
from src.errors import JobFailed, UserError
from src.evaluation.measure import SAMPLES_AT_ONCE, evaluate
from src.evaluation.metrics import Metrics
from src.export.formats import WRITERS, Differs, Outputs
from src.predict import picture
from src.run import trained
from src.run.state import weights_sha256
from src.run.trained import Trained

CLOSE = 1e-4  # of the largest output, or of 1

TRACED = (
    "; what forward computes in Python (len(inputs), an if on a tensor) is fixed in the graph; --to safetensors "
    "exports any model"
)


def export(
    path: Path, to: str, file: Path | None = None, model_file: Path | None = None, averaged: bool = False
) -> str:
    """Write, read back, compare; returns what to print. Raises UserError, or JobFailed where they differ."""
    run = trained.load(path, model_file=model_file, averaged=averaged)
    file = file or path / f"model.{to}"
    if not os.access(file.parent, os.W_OK):
        raise UserError(f"{file}: cannot be written (no such folder, or no permission)", fix="name another with --file")
    test = trained.test_of(run).test
    metrics = evaluate(run.model, run.module, test)
    try:
        with files.whole(file) as temporary:
            exported = WRITERS[to](run, temporary, facts(run, metrics))
            compared = compare(run, exported, test, metrics)
            temporary.chmod(0o644 & ~_umask())
    except Differs as error:
        raise JobFailed(f"{file}: {error}: not kept{TRACED if to == 'onnx' else ''}") from None
    except ImportError as error:
        raise UserError(f"--to {to}: {error.name} is not installed: run `make setup-export`") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from None
    return f"{file}: weights of {run.origin}, {compared}\ntest  {metrics}"


def facts(run: Trained, metrics: Metrics) -> dict[str, str]:
    """What goes along with the weights, as text by name."""
    spec = run.spec
    kind = "bytes" if spec.dtype.itemsize == 1 else str(spec.dtype).removeprefix("torch.")
    known = metrics.as_dict() | {
        "run": run.path.name,
        "checkpoint": run.checkpoint.name,
        "averaged": run.averaged,
        "model": run.model.path.stem,
        "settings": json.dumps(run.settings.model.settings),
        "data": run.settings.data.name,
        "input": f"{kind} {spec.shape}, as they are stored in the data set",
        "weights_sha256": weights_sha256(run.module),
    }
    if run.settings.data.name in picture.DATA and picture.fits(spec.shape):
        known["preparation"] = picture.PREPARATION
    if spec.names:
        known["classes"] = json.dumps(spec.names)
    return {name: str(value) for name, value in known.items()}


def compare(run: Trained, exported: nn.Module | Outputs, test: Split, metrics: Metrics) -> str:
    """How what was read back compares with torch on the test set. Raises Differs.

    A module must have the same metrics, whatever its forward takes; a graph must give the same outputs.
    """
    if isinstance(exported, nn.Module):
        if repr(again := evaluate(run.model, exported, test)) != repr(metrics):  # NaN is not NaN
            raise Differs(f"its weights measure {again}, torch's {metrics}")
        return f"the same bits, the same metrics on {len(test)} samples"
    same, largest = agreement(run, exported, test)
    if same != len(test):
        raise Differs(f"{same} of {len(test)} predictions agree, outputs differ by {largest:.1e}")
    return f"{same}/{len(test)} predictions as torch's, outputs within {largest:.1e}"


def agreement(run: Trained, exported: Outputs, split: Split) -> tuple[int, float]:
    """(samples whose predictions are torch's, the largest difference of an output) over a data set.

    A prediction is an output near torch's; where there is one for each class, the largest must be the same too.
    """
    same, largest = 0, 0.0
    with torch.no_grad():
        for start in range(0, len(split), SAMPLES_AT_ONCE):
            inputs, _ = split.range(start, start + SAMPLES_AT_ONCE)
            ours, theirs = _flat(run, run.module, inputs), _flat(run, exported, inputs)
            apart = (ours - theirs).abs().amax(1)
            agrees = apart <= CLOSE * ours.abs().amax(1).clamp(min=1)
            if ours.shape[1] == run.spec.classes:
                agrees &= ours.argmax(1) == theirs.argmax(1)
            same += int(agrees.sum())
            largest = max(largest, float(apart.max()))
    return same, largest


def _flat(run: Trained, outputs: Outputs, inputs: Tensor) -> Tensor:
    """(n, numbers of one sample): what a module or a graph makes of inputs. Raises UserError where it is no tensor."""
    with run.model.user_code():
        result = outputs(inputs)
    if not isinstance(result, Tensor) or result.dim() == 0 or len(result) != len(inputs):
        raise UserError(
            f"{run.model.path}: module(inputs) returns no tensor of one row a sample",
            fix="--to safetensors exports any model",
        )
    return result.float().reshape(len(inputs), -1)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
