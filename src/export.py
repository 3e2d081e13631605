"""Weights for other programs: python -m src.export runs/NAME --to safetensors|onnx [--file FILE]

What was written is loaded again by the format's own library and held against torch on the whole test set.
"""

import argparse
import dataclasses
import errno
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.console import one_line_errors
from src.data import dataset as data
from src.data.dataset import Split
from src.errors import JobFailed, UserError
from src.evaluation import SAMPLES_AT_ONCE
from src.run import trained
from src.run.trained import Trained
from src.world.world import World

Logits = Callable[[Tensor], Tensor]  # (n, PIXELS) uint8 -> (n, CLASSES)
CLOSE = 1e-4


def facts(run: Trained) -> dict[str, str]:
    """What goes along with the weights."""
    known = {name: run.status[name] for name in ("correct", "count", "weights_sha256", "data") if name in run.status}
    prepared = "float32(pixel) / 255, light on dark, 20 x 20 box, centred by mass in 28 x 28"
    return {"run": run.path.name, "loss": str(run.settings.model.settings.get("loss", "")), "input": prepared, **{
        name: str(value) for name, value in known.items()
    }}  # fmt: skip


def safetensors(run: Trained, file: Path) -> Logits:
    """Write the weights and their facts; returns a model made of what safetensors reads back."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    try:
        save_file({name: tensor.contiguous() for name, tensor in run.module.state_dict().items()}, file, facts(run))
    except SafetensorError as error:  # a full disk, among others
        raise OSError(errno.EIO, str(error).rpartition(": ")[2]) from None
    again = run.model.build(run.spec, run.settings.train.seed)
    again.load_state_dict(load_file(file))
    again.eval()
    return lambda images: again(images)


def onnx(run: Trained, file: Path) -> Logits:
    """Write the whole way from bytes to probabilities as a graph; returns what onnxruntime makes of it.

    Input `pixels` (n, 28, 28) uint8, outputs `logits` and `probabilities` (n, 10). Raises UserError for a model
    that is not one linear layer.
    """
    import onnxruntime
    from onnx import TensorProto, checker, helper, numpy_helper, save

    state = run.module.state_dict()
    if {tuple(tensor.shape) for tensor in state.values()} != {
        (run.spec.classes, math.prod(run.spec.shape)),
        (run.spec.classes,),
    }:
        raise UserError(
            "--to onnx: writes the graph of one linear layer", fix="use torch.onnx.export for another model"
        )
    weight, bias = (next(t for t in state.values() if t.dim() == dimensions) for dimensions in (2, 1))
    activation = "Sigmoid" if run.settings.model.settings.get("loss") == "bce" else "Softmax"
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "white"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
        helper.make_node(activation, ["logits"], ["probabilities"]),
    ]
    constants = {
        "white": torch.tensor(255.0),
        "shape": torch.tensor([-1, math.prod(run.spec.shape)]),
        "weight": weight,
        "bias": bias,
    }
    graph = helper.make_graph(
        nodes,
        "digit",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", *run.spec.shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", run.spec.classes])
            for name in ("logits", "probabilities")
        ],
        [numpy_helper.from_array(value.numpy(), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(made, facts(run))
    checker.check_model(made, full_check=True)
    save(made, file)
    session: Any = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(
        session.run(["logits"], {"pixels": images.view(-1, *run.spec.shape).numpy()})[0]
    )


WRITERS = {"safetensors": (safetensors, "safetensors"), "onnx": (onnx, "onnx")}


@torch.no_grad()
def agreement(run: Trained, exported: Logits, split: Split) -> tuple[int, float]:
    """(how many predictions are torch's, the largest difference of a logit) over a data set."""
    same, largest = 0, 0.0
    for start in range(0, len(split), SAMPLES_AT_ONCE):
        images = split.inputs[start : start + SAMPLES_AT_ONCE]
        ours, theirs = run.module(images), exported(images)
        same += int((ours.argmax(1) == theirs.argmax(1)).sum())
        largest = max(largest, float((ours - theirs).abs().max()))
    return same, largest


def export(path: Path, to: str, file: Path | None) -> str:
    """Write, read back, compare; returns what to tell. Raises UserError, or JobFailed where they differ."""
    run = trained.load(path)
    file = file or path / f"model.{WRITERS[to][1]}"
    if not os.access(file.parent, os.W_OK):
        raise UserError(f"{file}: cannot be written (no such folder, or no permission)", fix="name another with --file")
    temporary = file.with_name(f".{file.name}.part")
    try:
        exported = WRITERS[to][0](run, temporary)
        test = data.load(dataclasses.replace(run.settings.data, fallback="none"), World(), print).test
        same, largest = agreement(run, exported, test)
        if same != len(test) or largest > CLOSE:
            raise JobFailed(
                f"{file}: {same} of {len(test)} predictions agree, logits differ by {largest:.1e}: not kept"
            )
        temporary.replace(file)
    except ImportError as error:
        raise UserError(f"--to {to}: {error.name} is not installed: run `make setup-export`") from None
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror})") from None
    finally:
        temporary.unlink(missing_ok=True)
    return f"{file}: {same}/{len(test)} predictions as torch's, logits within {largest:.1e}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m src.export", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--to", choices=WRITERS, required=True)
    parser.add_argument("--file", type=Path, help="default: model.* in the run's folder")
    chosen = parser.parse_args()
    with one_line_errors():
        print(export(chosen.run, chosen.to, chosen.file))


if __name__ == "__main__":
    main()
