"""The formats: each writes a model's weights, reads them back with its own library, and returns what that computes."""

import ctypes
import errno
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src import gallery
from src.errors import UserError
from src.gallery import Linear
from src.run.state import tensors_of
from src.run.trained import Trained

Outputs = Callable[[Tensor], Tensor]  # inputs (n, *shape) -> (n, ...)
INPUTS, LINEAR_INPUTS = "inputs", "pixels"  # what a graph calls them


class Differs(Exception):
    """What was read back is not what torch computes; the message says how far."""


def safetensors(run: Trained, file: Path, metadata: dict[str, str]) -> nn.Module:
    """Write the weights and their metadata; returns the module made of what safetensors reads back."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    state = run.module.state_dict()
    weights = tensors_of(state)
    if other := next(iter(state.keys() - weights.keys()), ""):
        raise UserError(
            f"--to safetensors: {other} is no tensor, and the format holds nothing else", fix="use --to onnx"
        )
    # Each tensor by itself: tied weights are stored twice, which every reader of the format can load.
    weights = {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}
    try:
        save_file(weights, file, metadata)
    except SafetensorError as error:  # a full disk, among others
        raise OSError(errno.EIO, str(error).rpartition(": ")[2]) from None
    read = load_file(file)
    if read.keys() != weights.keys() or not all(torch.equal(read[name], weights[name]) for name in weights):
        raise Differs("does not hold the weights that were written")
    again = run.model.build(run.spec, run.settings.train.seed)
    again.load_state_dict(read)
    again.eval()
    return again


def onnx(run: Trained, file: Path, metadata: dict[str, str]) -> Outputs:
    """Write the way from stored inputs to the model's outputs as a graph; returns what onnxruntime makes of it.

    A linear model: input `pixels` (n, *shape) uint8, outputs `logits` and `probabilities` (n, classes). Any other:
    input `inputs`, output `outputs`. Raises UserError for a model that torch cannot export.
    """
    import onnxruntime
    from onnx import checker, helper, load, save

    fit = gallery.linear(run.model, run.module, run.spec)
    if fit is not None:
        graph, name = _graph(run, fit), LINEAR_INPUTS
    else:
        _torch_export(run, file)
        graph, name = load(file), INPUTS
    helper.set_model_props(graph, metadata)
    checker.check_model(graph, full_check=True)
    save(graph, file)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # an error is raised too, and becomes one line
    session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def outputs(inputs: Tensor) -> Tensor:
        try:
            return torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])
        except Exception as error:  # its classes are not exported
            raise Differs(f"onnxruntime cannot run it ({_one_line(error)})") from None

    return outputs


def _graph(run: Trained, fit: Linear) -> Any:
    """A linear model as a graph made by hand."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", [LINEAR_INPUTS], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "divisor"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
        helper.make_node(fit.activation.capitalize(), ["logits"], ["probabilities"]),
    ]
    shape = torch.tensor([-1, math.prod(run.spec.shape)])
    constants = {"divisor": torch.tensor(fit.divisor), "shape": shape, "weight": fit.weight, "bias": fit.bias}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", run.spec.classes])
        for name in ("logits", "probabilities")
    ]
    graph = helper.make_graph(
        nodes,
        run.model.path.stem,
        [helper.make_tensor_value_info(LINEAR_INPUTS, TensorProto.UINT8, ["n", *run.spec.shape])],
        outputs,
        [numpy_helper.from_array(value.numpy(), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _torch_export(run: Trained, file: Path) -> None:
    """Write the module as torch.onnx.export does. Raises UserError for what it cannot export."""
    example = torch.zeros(2, *run.spec.shape, dtype=run.spec.dtype)
    try:
        with _unprinted(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # dynamo=True needs onnxscript, a package more
            torch.onnx.export(
                run.module,
                (example,),
                str(file),
                dynamo=False,
                input_names=[INPUTS],
                output_names=["outputs"],
                dynamic_axes={INPUTS: {0: "n"}, "outputs": {0: "n"}},
            )
    except OSError:
        raise
    except Exception as error:
        text = f"--to onnx: torch cannot export {run.model.path.name} ({_one_line(error)})"
        raise UserError(text, fix="use --to safetensors") from None


@contextmanager
def _unprinted() -> Iterator[None]:
    """Around torch's exporter, whose C++ prints the graph to standard output where it does not know an operator."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C's own buffer holds
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


WRITERS: dict[str, Callable[[Trained, Path, dict[str, str]], nn.Module | Outputs]] = {
    "safetensors": safetensors,
    "onnx": onnx,
}
