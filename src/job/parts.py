"""What is trained, and how: from the settings and a data set, the same for a job and a dry run. Nothing is written."""

from dataclasses import dataclass

from torch import nn

from src import config, model_file, models
from src.averages import Average
from src.data.dataset import DataSet
from src.data.loader import ShardedLoader
from src.gradients.build import Gradients, build_gradients, local_shards
from src.gradients.graph import refuse_graph
from src.gradients.step import make_repeatable
from src.gradients.trial import MOST, Trial, try_shares
from src.models import Model, compiling
from src.optimizer import Optimizer
from src.rehearsal import rehearse
from src.run import run
from src.run.progress import Progress
from src.run.state import TrainState
from src.schema import Config
from src.world.world import World

FEW = 2  # samples to try a model on


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What is trained; `trial` is what came out when the model was tried on a few samples."""

    settings: Config
    world: World
    dataset: DataSet
    model: Model
    trial: Trial
    batches: ShardedLoader
    state: TrainState
    last_step: int

    @property
    def module(self) -> nn.Module:
        """What the model's file has built."""
        return self.state.module

    def compile(self) -> None:
        """What train.compile asks for. Raises UserError."""
        if self.settings.train.compile:
            compiling.compile_in_place(self.module, self.model.loss, *self.dataset.train.first(FEW, self.world.device))

    def gradients(self) -> Gradients:
        """How the ranks agree on a gradient of the module as it is now. Called by all ranks; raises UserError."""
        model, trial = self.model, self.trial
        own = model.gradients if model.has_gradients else None
        return build_gradients(
            self.module,
            model.loss,
            self.settings.train,
            self.world,
            trial.stand_in,
            _draws_from(model),
            trial.updated,
            own,
        )


def chosen(settings: Config, dataset: DataSet) -> tuple[Config, DataSet]:
    """The settings with the run's name and the data that is really trained on; these, without data.validation."""
    dataset = dataset.held_out(settings.data.validation, settings.train.seed)
    return run.on(settings, dataset), dataset


def build(settings: Config, dataset: DataSet, world: World) -> Parts:
    """The parts as they are before the first step. Called by all ranks; raises UserError."""
    make_repeatable(settings.train, world.device)
    model, module, trial = _build_model(settings, dataset, world)
    batches = _batches_of(settings, dataset, model, world)
    state, last_step = _state_of(settings, model, module, batches.steps_per_epoch)
    return Parts(
        settings=settings,
        world=world,
        dataset=dataset,
        model=model,
        trial=trial,
        batches=batches,
        state=state,
        last_step=last_step,
    )


def _build_model(settings: Config, dataset: DataSet, world: World) -> tuple[Model, nn.Module, Trial]:
    """The model's file, the module that it builds, and what came out when it was tried on a few samples."""
    train = settings.train
    model = models.load(config.model_path(settings.model), settings.model.settings)
    refuse_graph(train, world.device, world.size, _draws_from(model))
    module = model.build(dataset.spec, train.seed).to(world.device)
    model.check(module, *dataset.train.first(FEW, world.device))
    shards, _ = local_shards(train, world)
    trial = try_shares(module, model.loss, dataset.train, train, shards, world.device)
    if train.rehearsal:
        rehearse(model, module, dataset, settings, world.device, min(trial.smallest, MOST))
    return model, module, trial


def _draws_from(model: Model) -> set[str]:
    """The modules, besides torch, from which the model's file may draw random numbers."""
    return model_file.imports(model.path) & {"random", "numpy"}


def _batches_of(settings: Config, dataset: DataSet, model: Model, world: World) -> ShardedLoader:
    """This rank's part of the training set."""
    shards, local = local_shards(settings.train, world)
    augment = model.augment if model.augments else None
    return ShardedLoader(dataset.train, settings.train, local, shards, world.device, augment, settings.data.shuffle)


def _state_of(settings: Config, model: Model, module: nn.Module, steps_per_epoch: int) -> tuple[TrainState, int]:
    """(what training changes, as it is before the first step; the number of the last step)."""
    train, steps = settings.train, steps_per_epoch * settings.train.epochs
    last_step = min(steps, train.max_steps or steps)
    groups = model.parameter_groups(module, decay=settings.optim.weight_decay > 0)
    optimizer = Optimizer(groups, settings.optim, last_step, cuda_graph=train.cuda_graph)
    return TrainState(module, optimizer, Average(module, settings.optim.average), Progress()), last_step
