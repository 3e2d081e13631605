"""Exported models predict what torch predicts, and no partial file is left."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from src import export
from src.data import dataset as data
from src.errors import JobFailed, UserError
from src.evaluation import predict
from src.run import trained
from tests.helpers.commands import command
from tests.helpers.namespaces import in_namespaces


def test_the_onnx_model_maps_bytes_to_probabilities(best: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="`make setup-export` installs it")
    file = tmp_path / "model.onnx"
    done = command("src.export", str(best), "--to", "onnx", "--file", str(file))
    assert done.returncode == 0, done.stderr
    assert "10000/10000 predictions as torch's" in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]
    run = trained.load(best)
    images = data._split(data.folder(run.settings.data), *data.TEST).images
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (chances,) = session.run(["probabilities"], {"pixels": images.view(-1, 28, 28).numpy()})
    with torch.no_grad():
        ours = predict(run.module, images)
    assert (chances.argmax(1) == ours.argmax(1).numpy()).sum() == 10_000
    assert np.abs(chances - ours.softmax(1).numpy()).max() < 1e-5
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["weights_sha256"] == run.status["weights_sha256"]
    assert facts["input"].startswith("float32(pixel) / 255, light on dark")


def test_safetensors_holds_the_weights_and_their_facts(best: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors", reason="`make setup-export` installs it")
    file = tmp_path / "model.safetensors"
    done = command("src.export", str(best), "--to", "safetensors", "--file", str(file))
    assert done.returncode == 0, done.stderr
    assert "10000/10000 predictions as torch's, logits within 0.0e+00" in done.stdout
    run = trained.load(best)
    with library.safe_open(str(file), "pt") as content:
        assert content.metadata()["weights_sha256"] == run.status["weights_sha256"]
        for name, tensor in run.module.state_dict().items():
            assert torch.equal(content.get_tensor(name), tensor)


def test_an_export_that_differs_is_not_kept(best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def worse(run: trained.Trained, file: Path) -> export.Logits:
        file.write_text("x")
        return lambda images: predict(run.module, images).flip(1)

    monkeypatch.setitem(export.WRITERS, "onnx", (worse, "onnx"))
    with pytest.raises(JobFailed, match=r"of 10000 predictions agree, logits differ by .*: not kept"):
        export.export(best, "onnx", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_missing_is_named(best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"--to onnx: onnxruntime is not installed: run `make setup-export`"):
        export.export(best, "onnx", tmp_path / "model.onnx")


@pytest.mark.parametrize("to", ["safetensors", "onnx"])
def test_a_file_that_cannot_be_written(to: str, best: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors" if to == "safetensors" else "onnxruntime", reason="`make setup-export`")
    with pytest.raises(UserError, match=r"model: cannot be written \(no such folder, or no permission\)"):
        export.export(best, to, tmp_path / "no" / "model")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"folder: cannot be written \(Is a directory\)"):
        export.export(best, to, tmp_path / "folder")


def test_a_full_disk(best: Path, tmp_path: Path) -> None:
    for to in ("safetensors", "onnx"):
        pytest.importorskip("safetensors" if to == "safetensors" else "onnxruntime", reason="`make setup-export`")
        prepare = f"mount -t tmpfs -o size=16k tmpfs {tmp_path}"
        done = in_namespaces("--mount", prepare, "src.export", str(best), "--to", to, "--file", str(tmp_path / "model"))
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(f"error: {tmp_path}/model: cannot be written (No space left on device")


def test_a_run_without_weights(best: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((best / "config.yaml").read_text())
    done = command("src.export", str(tmp_path), "--to", "onnx")
    assert done.returncode == 2
    assert "has no weights yet" in done.stderr
