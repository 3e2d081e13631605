"""An exported file is kept only if it computes what torch computes; what goes along with the weights."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from torch import Tensor

from src.errors import JobFailed, UserError
from src.export import formats, weights
from src.run import layout, trained
from src.run.layout import newest_first
from src.run.state import weights_sha256
from tests.helpers.commands import command
from tests.helpers.namespaces import in_namespaces


def test_the_metadata_are_those_of_the_weights_that_are_exported(best: Path, tmp_path: Path) -> None:
    """Of best.pt, also where status.json tells of another step's weights."""
    library = pytest.importorskip("safetensors", reason="`make setup-export` installs it")
    run = shutil.copytree(best, tmp_path / "run")
    (run / "checkpoints" / "best.pt").unlink()
    shutil.copy(newest_first(run / "checkpoints")[-1], run / "checkpoints" / "best.pt")
    done = command("src.export", str(run), "--to", "safetensors")
    assert done.returncode == 0, done.stderr
    assert f"weights of {run}/checkpoints/best.pt, the same bits, the same metrics on 10000 samples" in done.stdout
    with library.safe_open(str(run / "model.safetensors"), "pt") as content:
        metadata = content.metadata()
    status, loaded = layout.read_status(run), trained.load(run)
    assert metadata["weights_sha256"] == weights_sha256(loaded.module) != status["weights_sha256"]
    assert metadata["correct"] != str(status["correct"])
    assert f"test  {metadata['correct']}/10000 = " in command("src.evaluate", str(run)).stdout
    assert metadata["input"] == "bytes (28, 28), as they are stored in the data set"
    assert metadata["preparation"].startswith("light on dark")
    assert json.loads(metadata["settings"]) == {"loss": "cross_entropy"}


def test_the_mode_follows_the_umask(best: Path, tmp_path: Path) -> None:
    for to, package in (("safetensors", "safetensors"), ("onnx", "onnxruntime")):
        pytest.importorskip(package, reason="`make setup-export` installs it")
        weights.export(best, to, tmp_path / to)
        assert (tmp_path / to).stat().st_mode & 0o777 == 0o644 & ~weights._umask()


def test_an_export_that_differs_is_not_kept(best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def worse(run: trained.Trained, file: Path, metadata: dict[str, str]) -> formats.Outputs:
        file.write_text("x")

        def outputs(inputs: Tensor) -> Tensor:
            flipped: Tensor = run.module(inputs).flip(1)
            return flipped

        return outputs

    monkeypatch.setitem(formats.WRITERS, "onnx", worse)
    with pytest.raises(
        JobFailed, match=r"of 10000 predictions agree, outputs differ by .*: not kept; what forward computes in Python"
    ):
        weights.export(best, "onnx", tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_missing_is_named(best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"--to onnx: onnxruntime is not installed: run `make setup-export`"):
        weights.export(best, "onnx", tmp_path / "model.onnx")


@pytest.mark.parametrize("to", ["safetensors", "onnx"])
def test_a_file_that_cannot_be_written(to: str, best: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors" if to == "safetensors" else "onnxruntime", reason="`make setup-export`")
    with pytest.raises(UserError, match=r"model: cannot be written \(no such folder, or no permission\)"):
        weights.export(best, to, tmp_path / "no" / "model")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"folder: cannot be written \(Is a directory\)"):
        weights.export(best, to, tmp_path / "folder")


def test_a_full_disk(best: Path, tmp_path: Path) -> None:
    for to in ("safetensors", "onnx"):
        pytest.importorskip("safetensors" if to == "safetensors" else "onnxruntime", reason="`make setup-export`")
        prepare = f"mount -t tmpfs -o size=16k tmpfs {tmp_path}"
        done = in_namespaces("--mount", prepare, "src.export", str(best), "--to", to, "--file", str(tmp_path / "model"))
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(f"error: {tmp_path}/model: cannot be written (No space left on device")
