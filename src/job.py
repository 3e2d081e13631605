"""The parts of a training job, built in order; each knows by itself what rank 0 does and what all ranks do."""

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from src import config, files, gallery, model_file, models, schema
from src.averages import Average
from src.console import Console
from src.data import dataset as datasets
from src.data.dataset import DataSet
from src.data.loader import ShardedLoader
from src.data.splits import Split
from src.evaluation import Interrupted, Metrics, evaluate
from src.gradients.build import Gradients, build_gradients, local_shards
from src.gradients.step import make_repeatable
from src.gradients.trial import Trial, try_shares
from src.interrupts import Interrupts
from src.models import Model, compiling
from src.optimizer import Optimizer
from src.run import layout, run
from src.run.checkpoint import Checkpoints, TrainState, weights_sha256
from src.run.layout import State, StopReason
from src.run.progress import Progress, Speed
from src.run.run import Run, Start
from src.schema import Config
from src.tracking.pictures import pictures
from src.tracking.tracker import Tracker
from src.world import world as worlds
from src.world.world import World

FEW = 2  # samples to try a model on


@dataclass(kw_only=True)
class Job:
    """Everything that the loop needs; `last_step` is the training's, `metrics` those of the newest evaluation."""

    settings: Config
    world: World
    run: Run
    model: Model
    console: Console
    dataset: DataSet
    batches: ShardedLoader
    gradients: Gradients
    state: TrainState
    checkpoints: Checkpoints
    tracker: Tracker
    interrupts: Interrupts
    speed: Speed
    last_step: int
    warn_once: Callable[[str], None]
    metrics: Metrics | None = None

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever ends the block badly is written into status.json, and ends the tracking."""
        with self.tracker.failing(), self.run.failing(), self.world.naming_lost_peers():
            yield

    def stop_reason(self) -> StopReason:
        """Why the ranks stop: the first rank's reason that has one. Called by all ranks."""
        return next(reason for reason in self.world.all_gather(self.interrupts.reason) if reason is not None)

    def evaluate(self) -> Metrics | None:
        """What rank 0 measures on the test set, on all ranks; None if it was interrupted."""
        self.metrics = self.world.rank0_decides(self._evaluate)
        return self.metrics

    def _evaluate(self) -> Metrics | None:
        try:
            return self._measure(lambda: self.interrupts.reason is not None)
        except Interrupted:
            return None

    def _measure(self, interrupted: Callable[[], bool] = lambda: False) -> Metrics:
        with compiling.uncompiled(self.state.module):
            raw = evaluate(self.model, self.state.module, self.test, interrupted)
        if self.state.average.module is None:
            return raw
        averaged = evaluate(self.model, self.state.average.module, self.test, interrupted)
        return dataclasses.replace(raw, averaged=averaged)

    @property
    def test(self) -> Split:
        """The test set on this rank's device."""
        return self.dataset.test.to(self.world.device)

    def conclude(self) -> None:
        """The result of a finished run, for people and for machines. Called by all ranks."""
        progress, rate = self.state.progress, self.speed.rate()
        metrics = self.metrics or self.world.rank0_decides(self._measure)
        facts: dict[str, object] = {**metrics.as_dict(), "samples_per_second": round(rate, 1)}
        facts |= {"weights_sha256": weights_sha256(self.state.module)}
        if self.state.average.module is not None:
            facts |= {
                "average_sha256": weights_sha256(self.state.average.module),
                "best_weights": progress.best_weights,
            }
        facts |= {"waiting_seconds": round(self.gradients.waited, 3)}
        self.run.event("finish", step=progress.step, weights_sha256=facts["weights_sha256"])
        self.run.status(State.FINISHED, epoch=progress.epoch, step=progress.step, **facts)
        written = self.world.rank == 0 and self._write_report()
        self.tracker.finish(pictures(self.model, self.state.module, self.dataset.spec, self.test, metrics))
        self.console.stop()
        path = self.run.path
        saved = [layout.checkpoint(path, progress.step), path / layout.METRICS, *[path / layout.REPORT] * written]
        self.console.rows(
            {
                "result": f"{', '.join(metrics.texts())}, {progress.epoch} epochs, {progress.step} steps",
                "speed": f"{rate:,.0f} samples/s in training, {self.console.seconds:.1f} s in all",
                "saved": ", ".join(map(str, saved)),
                "next": "; ".join(gallery.next_commands(path, self.model, self.state.module, self.dataset.spec)),
            }
        )
        self.repeat_warning()

    def repeat_warning(self) -> None:
        """Say again at the end that other data was trained on than asked for."""
        if self.dataset.note:
            self.console.print(self.dataset.headline)

    def stopped(self, reason: StopReason) -> None:
        """Say why the run stopped and how it goes on, for people and for machines. It has saved."""
        self.run.preempted(reason, self.state.progress)
        self.console.interrupted(reason, self.state.progress)
        if self.world.rank == 0:
            self._write_report(stopped=True)
        self.tracker.finish(None)

    def _write_report(self, stopped: bool = False) -> bool:
        """The run on one page, report.html. Whatever goes wrong with it is a warning, and costs the run nothing."""
        try:
            from src.report import page  # only here: the start does not wait for it

            page.at_the_end(self.run.path, self.settings, self.model, self.state.module, self.dataset, stopped)
        except Exception as error:
            path = self.run.path
            self.console.warn(f"{path}/report.html: not written ({error}); `python -m src.report {path}` writes it")
            return False
        return True


@contextmanager
def join(settings: Config) -> Iterator[Job | None]:
    """Meet the other ranks and build every part; None if the run is finished. Raises UserError on all ranks."""
    with worlds.join(settings.train) as world:
        yield prepare(settings, world)


def prepare(settings: Config, world: World) -> Job | None:
    """Build every part, and go back to where the run was; None if it is finished."""
    train = settings.train
    make_repeatable(train, world.device)
    console = Console(world.rank == 0, train.epochs, train.global_batch_size, settings.log.seconds)
    dataset = datasets.load(settings.data, world, console.print_any_rank)
    settings = run.on(settings, dataset)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((layout.directory(settings) / layout.COMPILED).absolute()))
    model, module, trial = build_model(settings, dataset, world)
    folder = Run(layout.directory(settings), world, settings, console.warn)
    interrupts = Interrupts(folder.path / layout.STOP, train.max_minutes)
    folder.open(dataset, lambda: interrupts.reason is not None)

    batches = batches_of(settings, dataset, model, world)
    state, last_step = state_of(settings, model, module, batches.steps_per_epoch)
    checkpoints = Checkpoints(folder, settings, world, dataset, console.warn)
    origin = checkpoints.resume(state)
    if origin.start is Start.RESUMED and folder.was_finished(state.progress):
        console.print(layout.finished_line(folder.path))
        return None

    if train.compile:
        compiling.compile_in_place(module, model.loss, *dataset.train.first(FEW, world.device))
    generators = model_file.imports(model.path) & {"random", "numpy"}
    own = model.gradients if model.has_gradients else None
    gradients = build_gradients(module, model.loss, train, world, trial.stand_in, generators, trial.updated, own)
    tracker = Tracker(folder, settings, world, console.warn)
    began = folder.begin(state.progress, origin, batches.steps_per_epoch, last_step)
    tracker.begin(state.progress)
    console.print(dataset.headline)
    console.rows(banner(settings, world, dataset, module, gradients.name, tracker.name, f"{folder.path}{began}"))
    return Job(
        settings=settings,
        world=world,
        run=folder,
        model=model,
        console=console,
        dataset=dataset,
        batches=batches,
        gradients=gradients,
        state=state,
        checkpoints=checkpoints,
        tracker=tracker,
        interrupts=interrupts,
        speed=Speed(state.progress),
        last_step=last_step,
        warn_once=files.once(console.warn),
    )


def build_model(settings: Config, dataset: DataSet, world: World) -> tuple[Model, nn.Module, Trial]:
    """The model's file, the module that it builds, and what came out when it was tried on a few samples."""
    train = settings.train
    model = models.load(config.model_path(settings.model), settings.model.settings)
    module = model.build(dataset.spec, train.seed).to(world.device)
    model.check(module, *dataset.train.first(FEW, world.device))
    shards, _ = local_shards(train, world)
    return model, module, try_shares(module, model.loss, dataset.train, train, shards, world.device)


def batches_of(settings: Config, dataset: DataSet, model: Model, world: World) -> ShardedLoader:
    """This rank's part of the training set."""
    shards, local = local_shards(settings.train, world)
    augment = model.augment if model.augments else None
    return ShardedLoader(dataset.train, settings.train, local, shards, world.device, augment)


def state_of(settings: Config, model: Model, module: nn.Module, steps_per_epoch: int) -> tuple[TrainState, int]:
    """(what training changes, as it is before the first step; the number of the last step)."""
    train, steps = settings.train, steps_per_epoch * settings.train.epochs
    last_step = min(steps, train.max_steps or steps)
    groups = model.parameter_groups(module, decay=settings.optim.weight_decay > 0)
    optimizer = Optimizer(groups, settings.optim, last_step)
    return TrainState(module, optimizer, Average(module, settings.optim.average), Progress()), last_step


def norm_share(module: nn.Module, train: schema.Train, world: World) -> str:
    """Over which samples BatchNorm takes its statistics, where that is not the global batch; else ''."""
    if not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in module.modules()):
        return ""
    if train.sync == "bitwise":
        return f"each of {train.shards} shards alone, {train.global_batch_size / train.shards:g} samples"
    share = train.global_batch_size / world.size
    if 0 < train.micro_batch_size < share:
        return f"each micro-batch alone, {train.micro_batch_size} samples"
    return (
        f"each rank's share alone, {share:g} samples: other numbers of ranks train otherwise" if world.size > 1 else ""
    )


def banner(
    settings: Config, world: World, dataset: DataSet, module: nn.Module, gradients: str, tracker: str, folder: str
) -> dict[str, str]:
    """What is going to run, and where: a text for each label."""
    train = settings.train
    ranks = f"{world.size} rank{'s' if world.size > 1 else ''}"
    rows = {
        "world": f"{ranks}, {world.device.type}, backend {world.backend}, {train.threads} thread(s) each",
        "sync": gradients,
        "data": f"{dataset.name}: {len(dataset.train)} training and {len(dataset.test)} test samples",
        "batch": f"global {train.global_batch_size} = {ranks} x {train.global_batch_size / world.size:g}",
        "track": tracker,
        "run": folder,
    }
    if share := norm_share(module, train, world):
        rows["norm"] = f"BatchNorm normalises {share}"
    return rows | ({"note": world.note} if world.note else {})
