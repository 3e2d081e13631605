"""What a checkpoint holds: copies that training does not change, and what brings a model back to them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from src import schema
from src.averages import Average
from src.gradients.step import StepResult
from src.optimizer import Optimizer
from src.run import archive
from src.run.layout import read_status
from src.run.progress import Progress
from src.run.state import TrainState, tensors_of, weights_sha256
from tests.helpers.commands import command
from tests.helpers.ranks import ROOT, good_job


def state(**optim: object) -> TrainState:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    module.register_buffer("clock", torch.zeros(1), persistent=False)
    settings = schema.Optim(**optim)  # type: ignore[arg-type]
    optimizer = Optimizer([{"params": list(module.parameters())}], settings, 10)
    return TrainState(module, optimizer, Average(module, settings.average), Progress())


def train(made: TrainState, steps: int = 1) -> None:
    for _ in range(steps):
        for parameter in made.module.parameters():
            parameter.grad = torch.ones_like(parameter)
        made.module.get_buffer("clock").add_(1)
        made.update(StepResult(1.0, 0.0, 1.0), 4)


def test_a_state_goes_back_to_what_was_saved() -> None:
    made, other = state(name="adamw", average=8.0), state(name="adamw", average=8.0)
    train(made, 3)
    other.load_state_dict(made.state_dict())
    assert weights_sha256(other.module) == weights_sha256(made.module)
    assert (other.progress.step, float(other.module.get_buffer("clock"))) == (3, 3.0)
    train(made, 2)
    train(other, 2)
    assert weights_sha256(other.module) == weights_sha256(made.module)


def test_a_state_dict_is_a_copy_that_training_does_not_change() -> None:
    made = state(name="adamw", average=8.0)
    train(made)
    taken, again = made.state_dict(), made.state_dict()
    train(made, 3)
    changed = made.state_dict()
    moments = [found["optimizer"]["state"][0]["exp_avg"] for found in (taken, again, changed)]
    assert torch.equal(moments[0], moments[1])
    assert not torch.equal(moments[0], moments[2])
    assert taken["optimizer"]["state"][0]["step"] == 1
    for name in ("model", "buffers"):
        assert all(torch.equal(tensor, again[name][key]) for key, tensor in taken[name].items())
    assert not torch.equal(taken["average"]["model"]["0.weight"], changed["average"]["model"]["0.weight"])
    assert isinstance(taken["optimizer"]["param_groups"][0]["betas"], tuple)


EXTRA = """

class Counting(LogisticRegression):
    epochs = 0

    def get_extra_state(self):
        return {"epochs": self.epochs, "last": [torch.zeros(2), "text"]}

    def set_extra_state(self, state):
        self.epochs = state["epochs"] + 1


def build(settings, data):
    return Counting(math.prod(data.shape), data.classes, settings.loss)
"""


def test_what_get_extra_state_returns_is_saved_and_is_no_weight(small: str, tmp_path: Path) -> None:
    model = tmp_path / "mine.py"
    model.write_text((ROOT / "src" / "models" / "logistic.py").read_text() + EXTRA + "\n\nimport torch\n")
    settings = ("data.name=idx", f"data.root={small}", f"model.name={model}", "optim.average=100", "train.sync=bitwise")
    whole = good_job(1, tmp_path / "whole", *settings, "run.name=x", "train.epochs=2")
    for ranks, epochs in ((2, 1), (3, 2)):
        parts = good_job(ranks, tmp_path / "parts", *settings, "run.name=x", f"train.epochs={epochs}")
    assert read_status(parts.run)["weights_sha256"] == read_status(whole.run)["weights_sha256"]
    content = archive.read(parts.run / "checkpoints" / "best.pt")["model"]
    assert content["_extra_state"]["epochs"] == 1, "loaded once"
    assert content.keys() - tensors_of(content).keys() == {"_extra_state"}
    assert command("src.evaluate", str(parts.run)).returncode == 0
    pytest.importorskip("safetensors", reason="`make setup-export` installs it")
    refused = command("src.export", str(parts.run), "--to", "safetensors")
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: --to safetensors: _extra_state is no tensor, and the format holds nothing else; use --to onnx\n",
    )
