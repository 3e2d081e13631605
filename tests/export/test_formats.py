"""Exported models predict what torch predicts: a linear one as a graph made by hand, any other by torch's exporter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.errors import UserError
from src.export import formats, weights
from src.run import trained
from tests.helpers.commands import command
from tests.helpers.strangers import TEST


def test_the_onnx_model_maps_bytes_to_probabilities(best: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="`make setup-export` installs it")
    file = tmp_path / "model.onnx"
    done = command("src.export", str(best), "--to", "onnx", "--file", str(file))
    assert done.returncode == 0, done.stderr
    assert "10000/10000 predictions as torch's" in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]
    run = trained.load(best)
    inputs = trained.test_of(run).test.inputs
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (chances,) = session.run(["probabilities"], {"pixels": inputs[:].numpy()})
    with torch.no_grad():
        ours = run.module(inputs)
    assert (chances.argmax(1) == ours.argmax(1).numpy()).sum() == 10_000
    assert np.abs(chances - ours.softmax(1).numpy()).max() < 1e-5
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["weights_sha256"] == run.status["weights_sha256"]
    assert metadata["correct"] == str(run.status["correct"])


def test_safetensors_holds_the_weights(best: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors", reason="`make setup-export` installs it")
    weights.export(best, "safetensors", tmp_path / "model")
    with library.safe_open(str(tmp_path / "model"), "pt") as content:
        for name, tensor in trained.load(best).module.state_dict().items():
            assert torch.equal(content.get_tensor(name), tensor)


@pytest.mark.parametrize("name", ["colours", "tokens", "outputs"])
def test_a_model_of_any_kind(name: str, strangers: Path, tmp_path: Path) -> None:
    """Agreement counts samples, whatever the shape of the outputs."""
    runtime = pytest.importorskip("onnxruntime", reason="`make setup-export` installs it")
    run = strangers / name / "runs" / name
    text = weights.export(run, "onnx", tmp_path / "model.onnx")
    assert f"{TEST}/{TEST} predictions as torch's" in text
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (entry,), spec = session.get_inputs(), trained.load(run).spec
    assert (entry.name, entry.shape) == ("inputs", ["n", *spec.shape])
    assert entry.type == ("tensor(float)" if spec.dtype == torch.float32 else "tensor(uint8)")
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["input"].startswith(f"{'float32' if name == 'outputs' else 'bytes'} {spec.shape}")
    assert "preparation" not in metadata
    assert f"{TEST} samples" in weights.export(run, "safetensors", tmp_path / "model")


class Branching(nn.Module):
    """Returns something else than a tensor."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> dict[str, object]:
        return {"logits": self.inner(inputs), "seen": object()}


def test_a_model_that_torch_cannot_export_is_one_line(strangers: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="`make setup-export` installs it")
    run = trained.load(strangers / "colours" / "runs" / "colours")
    run.__dict__["module"] = Branching(run.module)
    with pytest.raises(UserError, match=r"^--to onnx: torch cannot export colours.py \([^\n]*\); use --to safe"):
        formats.onnx(run, tmp_path / "model.onnx", {})


class Odd(nn.Module):
    """Has an operator that ONNX does not know."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = torch.special.i0e(self.inner(inputs))
        return outputs


def test_torch_prints_no_graph_where_it_does_not_know_an_operator(
    strangers: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime", reason="`make setup-export` installs it")
    run = trained.load(strangers / "outputs" / "runs" / "outputs")
    run.__dict__["module"] = Odd(run.module)
    with pytest.raises(
        UserError, match=r"^--to onnx: torch cannot export outputs.py \([^\n]*i0e[^\n]*\); use --to safe"
    ):
        formats.onnx(run, tmp_path / "model.onnx", {})
    print("goes on")
    assert capfd.readouterr() == ("goes on\n", "")
