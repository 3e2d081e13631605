"""A model's own gradients are held against autograd before the first step; what is wrong is named."""

import copy
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from src import models
from src.data.splits import Spec
from src.errors import ModelFailed, UserError
from src.models import closed_form

FILE = """
import torch
from torch import nn

class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.frozen = nn.Linear(4, 3), nn.Linear(3, 3).requires_grad_(False)
        self.register_buffer("calls", torch.zeros(2))

    def noise(self, inputs):
        self.calls += self.training
        return inputs.float() + torch.rand(inputs.shape)

def build(settings, data):
    return Noisy()

def loss(module, inputs, targets):
    return module.frozen(module.first(module.noise(inputs))).square().sum(), 2 * len(targets)

def gradients(module, inputs, targets):
    noisy = module.noise(inputs)
    outputs = module.frozen(module.first(noisy))
    errors = 2 * outputs @ module.frozen.weight
    summed, items = outputs.square().sum(), 2 * len(targets)
    by_name = {"first.weight": errors.t() @ noisy, "first.bias": errors.sum(0)}
    return summed, items, by_name
"""
RIGHT = "    return summed, items, by_name"
MISTAKES = [
    ("    return summed, by_name", "returned a tuple of 2", "(sum over the items, number of items, dict"),
    ("    return summed, items, list(by_name)", "returned a tuple of 3", "dict of gradients by name"),
    ("    del by_name['first.bias']\n" + RIGHT, "has no gradient of first.bias", "one for each parameter"),
    ("    by_name['frozen.bias'] = 0\n" + RIGHT, "has a gradient of 'frozen.bias'", "first.weight, first.bias"),
    (
        "    by_name['first.weight'] = by_name['first.weight'].t()\n" + RIGHT,
        "first.weight is a tensor (4, 3) of float32",
        "a tensor (3, 4) of float32",
    ),
    (
        "    by_name['first.bias'] = by_name['first.bias'].double()\n" + RIGHT,
        "first.bias is a tensor (3,) of float64",
        "a tensor (3,) of float32",
    ),
    ("    by_name['first.bias'] = 3\n" + RIGHT, "first.bias is a int", "a tensor (3,)"),
    ("    by_name['first.bias'][0] *= 1.01\n" + RIGHT, "first.bias is", "the same"),
    ("    by_name['first.weight'] *= float('nan')\n" + RIGHT, "first.weight is nan off", "the same"),
    ("    return summed / 2, items, by_name", "the loss is", "the same"),
    ("    return summed, 2, by_name", "the number of items is 2 off", "the same"),
    ("    module.calls += 1\n" + RIGHT, "calls is 1 off", "the same"),
]


def tried(folder: Path, text: str) -> tuple[models.Model, torch.nn.Module]:
    """A file of this text, loaded, built, and tried on two samples."""
    (folder / "mine.py").write_text(text)
    model = models.load(folder / "mine.py", {})
    module = model.build(Spec((4,), torch.uint8, 3), 0)
    model.check(module, torch.tensor([[1, 2, 3, 4], [250, 0, 7, 9]], dtype=torch.uint8), torch.tensor([0, 1]))
    return model, module


def test_a_right_one_is_taken_and_the_trial_leaves_no_trace(tmp_path: Path) -> None:
    model, module = tried(tmp_path, FILE)
    assert model.has_gradients
    before = torch.get_rng_state()
    inputs, targets = torch.ones(2, 4, dtype=torch.uint8), torch.tensor([0, 1])
    assert closed_form.mistake(model.loss, model.gradients, module, inputs, targets) is None
    assert torch.equal(torch.get_rng_state(), before)
    assert module.get_buffer("calls").tolist() == [0, 0]
    assert module.get_parameter("first.weight").grad is None


def test_one_copy_of_the_model_is_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, module = tried(tmp_path, FILE)
    copies, alive = list[weakref.ref[torch.nn.Module]](), list[int]()

    def counted(value: torch.nn.Module) -> torch.nn.Module:
        alive.append(sum(one() is not None for one in copies))
        copies.append(weakref.ref(made := copy.deepcopy(value)))
        return made

    monkeypatch.setattr(closed_form, "copy", SimpleNamespace(deepcopy=counted))
    inputs, targets = torch.ones(2, 4, dtype=torch.uint8), torch.tensor([0, 1])
    assert closed_form.mistake(model.loss, model.gradients, module, inputs, targets) is None
    assert alive == [0, 0]


@pytest.mark.parametrize(("end", "found", "expected"), MISTAKES)
def test_a_mistake_is_named(end: str, found: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        tried(tmp_path, FILE.replace(RIGHT, end))
    assert error.value.message.startswith(f"{tmp_path / 'mine.py'}: gradients: {found}")
    assert expected in error.value.fix


def test_what_it_raises_is_the_file_s_own(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="division by zero"):
        tried(tmp_path, FILE.replace(RIGHT, "    return 1 / 0"))


def test_other_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gradients: has the signature \(module\)"):
        tried(tmp_path, FILE[: FILE.index("def gradients")] + "def gradients(module):\n    return 3\n")
