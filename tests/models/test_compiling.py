"""train.compile: said in one line where it cannot be; the same keys; evaluated as it was written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from src.errors import UserError
from src.models import compiling
from src.run.layout import read_status
from tests.helpers.ranks import ROOT, good_job


def loss(module: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    return (module(inputs) - targets).square().sum(), len(targets)


def test_no_compiler_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"train.compile=true: no g\+\+ or clang\+\+ here; install g\+\+, or use"):
        compiling.compile_in_place(nn.Linear(1, 1), loss, torch.ones(2, 1), torch.ones(2, 1))


@pytest.mark.slow(seconds=10)
def test_a_compiler_that_fails_is_said_in_one_line(small: str, tmp_path: Path) -> None:
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    environment = os.environ | {"CXX": str(broken), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    settings = ["data.name=idx", f"data.root={small}", f"run.root={tmp_path}", "track.wandb=disabled"]
    command = [sys.executable, "-m", "src.train", *settings, "train.compile=true"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: train.compile=true: the compiler fails on this model (")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow(seconds=60)
def test_a_compiled_model_trains_and_resumes_to_the_bit(small: str, tmp_path: Path) -> None:
    settings = ("data.name=idx", f"data.root={small}", "train.compile=true", "train.sync=bitwise", "run.name=x")
    whole = good_job(1, tmp_path / "a", *settings, "train.epochs=2")
    good_job(2, tmp_path / "b", *settings, "train.epochs=1")
    again = good_job(1, tmp_path / "b", *settings, "train.epochs=2")
    assert read_status(again.run)["weights_sha256"] == read_status(whole.run)["weights_sha256"]
    content = torch.load(next((whole.run / "checkpoints").glob("step-*.pt")), weights_only=True)
    assert set(content["model"]) == {"linear.weight", "linear.bias"}


def test_an_evaluation_is_not_compiled() -> None:
    module = nn.Linear(1, 1)
    module.compile(backend="eager")
    compiled = module._compiled_call_impl
    assert compiled is not None
    with compiling.uncompiled(module):
        assert module._compiled_call_impl is None
    assert module._compiled_call_impl is compiled
