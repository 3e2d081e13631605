"""What would fail after hours of training fails before the first step, in one line, and leaves no run."""

from pathlib import Path

import pytest
import torch

from src.run.layout import read_status
from tests.helpers.data_sets import write_data_set, write_idx
from tests.helpers.ranks import ROOT, good_job, run_job

LOGISTIC = (ROOT / "src" / "models" / "logistic.py").read_text() + "\n\nimport torch\n\ndel gradients\n"
FAILING = {
    "the test set": """
def measure(module, inputs, targets, measure=measure):
    if not module.training and float(inputs.float().mean()) == 0:
        raise KeyError("no such class")
    return measure(module, inputs, targets)
""",
    "backward": """
class Broken(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError("no backward")


def loss(module, inputs, targets, loss=loss):
    summed, items = loss(module, inputs, targets)
    return Broken.apply(summed), items
""",
    "no gradient": """
def loss(module, inputs, targets, loss=loss):
    summed, items = loss(module, inputs, targets)
    return summed.detach(), items
""",
    "twice": """
def loss(module, inputs, targets, loss=loss):
    summed, items = loss(module, inputs, targets)
    if torch.is_grad_enabled():
        torch.autograd.grad(summed, list(module.parameters()))
    return summed, items
""",
    "a graph that is kept": """
def loss(module, inputs, targets, loss=loss):
    summed, items = loss(module, inputs, targets)
    if module.training:
        summed = summed + 0 * getattr(module, "before", 0)
        module.before = summed
    return summed, items
""",
    "a save": """
class Odd(LogisticRegression):
    def get_extra_state(self):
        return Settings()

    def set_extra_state(self, state):
        pass


def build(settings, data):
    return Odd(math.prod(data.shape), data.classes, settings.loss)
""",
    "augment": """
def augment(inputs, targets, draws):
    return inputs.flatten(2), targets[:1]
""",
    "enough": """
def enough(values):
    return values["accuracy"] / 2
""",
}
SAYS = {
    "the test set": "no such class",
    "backward": "no backward",
    "no gradient": "loss: returned a sum that no parameter has a part in",
    "twice": "loss: cannot be differentiated (Trying to backward through the graph a second time",
    "a graph that is kept": "loss: cannot be differentiated (Trying to backward through the graph a second time",
    "a save": "the module's state_dict holds what no checkpoint can hold",
    "augment": "Error",
    "enough": "enough: returned a float; expected True or False",
}


def settings(small: str, model: Path) -> tuple[str, ...]:
    return ("data.name=idx", f"data.root={small}", "run.name=x", "train.epochs=1", f"model.name={model}")


@pytest.mark.parametrize("what", FAILING)
def test_what_will_fail_fails_before_the_first_step(what: str, small: str, tmp_path: Path) -> None:
    model = tmp_path / "mine.py"
    model.write_text(LOGISTIC + FAILING[what])
    chosen = settings(small, model)
    if what == "the test set":
        raw = tmp_path / "data" / "IDX" / "raw"
        write_data_set(raw, 300, 40)
        write_idx(raw / "t10k-images-idx3-ubyte", torch.zeros(40, 28, 28, dtype=torch.uint8))
        chosen = (*chosen, f"data.root={tmp_path / 'data'}")
    job = run_job(1, tmp_path, *chosen)
    assert job.codes[0] in (1, 2), job.output
    assert SAYS[what] in job.output
    assert not (tmp_path / "runs" / "x").exists(), "nothing was begun"


def test_it_can_be_switched_off_and_changes_nothing(small: str, tmp_path: Path) -> None:
    """The convnet has BatchNorm, dropout and augmentation."""
    chosen = ("data.name=idx", f"data.root={small}", "model.name=convnet", "train.max_steps=3")
    hashes = [
        read_status(good_job(1, tmp_path / value, *chosen, f"train.rehearsal={value}").run)["weights_sha256"]
        for value in ("true", "false")
    ]
    assert hashes[0] == hashes[1]
