"""Whether the doctor tries what will happen to the model."""

from pathlib import Path

import pytest

from src import config
from src.doctor import model_checks
from src.doctor.findings import Plan
from src.errors import JobFailed, UserError
from tests.helpers.ranks import ROOT

LOGISTIC = (ROOT / "src" / "models" / "logistic.py").read_text() + "\n\nimport torch\n\ndel gradients\n"


def plan(*settings: str) -> Plan:
    return Plan(config.parse(list(settings)), list(settings), 1, [], 30)


def test_a_model_that_works(small: str) -> None:
    found = model_checks.model(plan("data.name=idx", f"data.root={small}", "data.validation=0.1"))
    assert found.colour == "green"
    assert found.message.startswith("logistic: 7,850 parameters; one step, an evaluation and a save")
    assert found.message.endswith(" work")


@pytest.mark.parametrize("name", ["logistic", "convnet", "transformer"])
def test_without_data_it_is_tried_on_noise(name: str, tmp_path: Path) -> None:
    data = "sums" if name == "transformer" else "mnist"
    found = model_checks.model(plan(f"model.name={name}", f"data.name={data}", f"data.root={tmp_path}"))
    assert (found.colour, found.message.endswith(" work on noise: the data set is not here")) == ("green", True)
    assert not list(tmp_path.iterdir()), "nothing is rendered or fetched"


def test_a_graph_without_a_gpu(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_checks, "gpu_count", lambda plan: 0)
    with pytest.raises(UserError, match=r"^train\.cuda_graph=true: this training is on the CPU; use a GPU, or"):
        model_checks.model(plan("data.name=idx", f"data.root={small}", "train.cuda_graph=true"))


def test_a_model_that_does_not(small: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    chosen = ("data.name=idx", f"data.root={small}", f"model.name={file}")
    file.write_text(f"{LOGISTIC}\n\ndef augment(inputs, targets, draws):\n    raise KeyError('x')\n")
    with pytest.raises(JobFailed, match="KeyError"):
        model_checks.model(plan(*chosen))
    file.write_text(f"{LOGISTIC}\n\ndef loss(module, inputs, targets):\n    return torch.zeros(()), 1\n")
    with pytest.raises(UserError, match="no parameter has a part in"):
        model_checks.model(plan(*chosen))


def test_an_export_that_fails_is_no_obstacle(small: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="`make setup-export` installs it")
    file = tmp_path / "mine.py"
    odd = """

class Odd(LogisticRegression):
    def forward(self, inputs):
        logits = super().forward(inputs)
        return logits + torch.linalg.eigvalsh(logits.T @ logits)


def build(settings, data):
    return Odd(math.prod(data.shape), data.classes, settings.loss)
"""
    file.write_text(LOGISTIC + odd)
    found = model_checks.model(plan("data.name=idx", f"data.root={small}", f"model.name={file}"))
    assert (found.colour, found.fix) == ("yellow", "no action needed to train")
    assert "--to onnx" in found.message
