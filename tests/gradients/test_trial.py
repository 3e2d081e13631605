"""The smallest share of a batch is tried before training."""

import pytest
import torch
from torch import Tensor, nn

from src import schema
from src.data.splits import Split
from src.errors import ModelFailed, UserError
from src.gradients.trial import Trial, try_shares

CPU = torch.device("cpu")


def split(samples: int) -> Split:
    return Split(torch.rand(samples, 4), torch.zeros(samples, dtype=torch.int64))


def loss(module: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
    try:
        return module(inputs).sum(), len(targets)
    except ValueError as error:
        raise ModelFailed(str(error)) from None


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


@pytest.mark.parametrize(
    ("samples", "batch", "settings", "shards", "said"),
    [
        (129, 32, {"sync": "ddp"}, 4, "a rank has only 1, and the model fails with so few"),
        (100, 6, {"sync": "ddp"}, 4, "a rank has only 1"),
        (65, 64, {"sync": "bitwise"}, 8, "a shard has only 1"),
        (64, 16, {"sync": "ddp", "micro_batch_size": 3}, 4, "a micro-batch has only 1"),
    ],
)
def test_a_share_that_is_too_small_is_refused_with_a_batch_that_works(
    samples: int, batch: int, settings: dict[str, object], shards: int, said: str
) -> None:
    chosen = schema.Train(global_batch_size=batch, **settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=said) as found:
        try_shares(net(), loss, split(samples), chosen, shards, CPU)
    assert found.value.message.startswith(f"train.global_batch_size={batch}: ")
    better = int(found.value.fix.split("use a batch of ")[1].split()[0])
    chosen.global_batch_size = better
    assert try_shares(net(), loss, split(samples), chosen, shards, CPU).stand_in is None or better < shards


def test_the_module_is_left_as_it_was() -> None:
    module = net().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    assert try_shares(module, loss, split(64), schema.Train(global_batch_size=8), 4, CPU) == Trial(2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert not module.training


def test_ranks_without_samples_get_a_batch_that_works() -> None:
    """34 samples in batches of 32 leave two of four ranks nothing; a batch of 2 is needed to normalise."""
    module = nn.Sequential(nn.Linear(4, 3))
    for micro_batch in (0, 3):
        settings = schema.Train(global_batch_size=32, micro_batch_size=micro_batch)
        stand_in = try_shares(module, loss, split(34), settings, 4, CPU).stand_in
        assert stand_in is not None
        assert len(stand_in.targets) == 1


class Teacher(nn.Module):
    """A frozen copy of the student follows it in every forward pass in training mode, in one of two ways."""

    def __init__(self, replaces: bool = False, trains: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.student, self.teacher, self.still = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 3)
        self.teacher.requires_grad_(trains)
        self.still.requires_grad_(False)
        self.replaces = replaces

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            for old, new in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                followed = 0.9 * old.data + 0.1 * new.data
                old.data = followed
            if self.replaces:
                self.teacher.bias = nn.Parameter(self.teacher.bias.data, requires_grad=False)
        goal = self.teacher(inputs).detach() + self.still(inputs)
        return torch.square(self.student(inputs) - goal).sum(1)


@pytest.mark.parametrize("replaces", [False, True])
def test_frozen_parameters_that_a_forward_pass_changes_are_found_and_put_back(replaces: bool) -> None:
    module = Teacher(replaces)
    before = {name: (parameter, parameter.clone()) for name, parameter in module.named_parameters()}
    trial = try_shares(module, loss, split(64), schema.Train(global_batch_size=8), 4, CPU)
    assert trial.updated == ["teacher.weight", "teacher.bias"]
    for name, parameter in module.named_parameters():
        assert parameter is before[name][0], name
        assert torch.equal(parameter, before[name][1]), name


def test_a_forward_pass_that_changes_what_is_trained_is_refused_where_shards_would_differ() -> None:
    module = Teacher(trains=True)
    with pytest.raises(UserError, match=r"changes parameters that are trained \(teacher.weight, teacher.bias\)"):
        try_shares(module, loss, split(64), schema.Train(sync="bitwise"), 8, CPU)
    assert try_shares(module, loss, split(64), schema.Train(), 2, CPU) == Trial(32)


def test_a_model_that_always_fails_raises_its_own_error() -> None:
    def failing(module: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
        raise ModelFailed("ZeroDivisionError: division by zero")

    with pytest.raises(ModelFailed, match="division by zero"):
        try_shares(net(), failing, split(64), schema.Train(), 2, CPU)


def test_it_is_tried_in_training_mode_whatever_mode_the_module_is_in() -> None:
    with pytest.raises(UserError, match="a rank has only 1"):
        try_shares(net().eval(), loss, split(129), schema.Train(global_batch_size=32), 4, CPU)


def test_synchronised_normalisation_is_refused_where_it_cannot_work() -> None:
    """The ranks would have to meet in each forward pass, for GPUs alone; bitwise ranks have several shards."""
    module = nn.SyncBatchNorm.convert_sync_batchnorm(net())  # type: ignore[no-untyped-call]
    for sync, shards, says in (("ddp", 2, "on CPUs"), ("bitwise", 8, "with train.sync=bitwise")):
        with pytest.raises(UserError, match=f"^model: 1 is a SyncBatchNorm, which does not work {says}"):
            try_shares(module, loss, split(64), schema.Train(global_batch_size=16, sync=sync), shards, CPU)
    assert try_shares(module, loss, split(64), schema.Train(global_batch_size=16), 1, CPU) == Trial(16)


def test_a_forward_pass_that_adds_parameters_in_training_is_refused() -> None:
    def grow(module: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, int]:
        if module.training:
            module.late = nn.Parameter(torch.zeros(1))
        return loss(module, inputs, targets)

    with pytest.raises(UserError, match="adds late to the module"):
        try_shares(net(), grow, split(64), schema.Train(global_batch_size=16), 2, CPU)
