"""What a checkpoint holds: copies that training does not change, and what brings a model back to them."""

import torch
from torch import nn

from src import schema
from src.averages import Average
from src.gradients.step import StepResult
from src.optimizer import Optimizer
from src.run.progress import Progress
from src.run.state import TrainState, weights_sha256


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
