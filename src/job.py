"""The parts of a training job, built in order; each knows by itself what rank 0 does and what all ranks do."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src import config, files, gallery, model_file, models, schema
from src.averages import Average
from src.clock import Clock, Slow
from src.console import Console
from src.data import dataset as datasets
from src.data.dataset import DataSet
from src.data.loader import ShardedLoader
from src.evaluation.evaluator import Evaluator
from src.evaluation.metrics import Metrics
from src.gradients.build import Gradients, build_gradients, local_shards, shards_of
from src.gradients.graph import refuse_graph
from src.gradients.notes import DIGEST
from src.gradients.step import make_repeatable
from src.gradients.trial import MOST, Trial, try_shares
from src.interrupts import Interrupts
from src.models import Model, compiling
from src.optimizer import Optimizer
from src.rehearsal import rehearse
from src.replicas import Replicas
from src.run import layout, run
from src.run.checkpoint import Checkpoints
from src.run.layout import Ended, State, StopReason
from src.run.mirror import Mirror
from src.run.progress import Progress, Speed
from src.run.requests import Requests
from src.run.run import Run, Start
from src.run.state import TrainState, weights_sha256
from src.schema import TEST, VALIDATION, Config
from src.tracking.pictures import pictures
from src.tracking.tracker import Tracker
from src.world import world as worlds
from src.world.world import World, hosts

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
    evaluator: Evaluator
    tracker: Tracker
    interrupts: Interrupts
    speed: Speed
    replicas: Replicas
    clock: Clock
    slow: Slow
    last_step: int
    warn_once: Callable[[str], None]
    metrics: Metrics | None = None

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever ends the block badly is written into status.json and report.html, and ends the tracking."""
        with self.run.mirror.failing(), self._reporting_failure(), self.tracker.failing(), self.run.failing():
            with self.checkpoints.failing(), self.world.naming_lost_peers():
                yield

    def note(self) -> Tensor:
        """What this rank tells the others with the next step: a digest of its weights, and where its time went."""
        digest = self.replicas.digest()
        return torch.cat([digest, torch.tensor(self.clock.take(), dtype=digest.dtype).to(digest.device)])

    def read(self, notes: list[list[float]] | Tensor) -> list[list[float]]:
        """The seconds of all ranks; JobFailed for a rank whose weights differ, a line for one that is slow."""
        rows, progress = notes.tolist() if isinstance(notes, Tensor) else notes, self.state.progress
        self.replicas.check([row[:DIGEST] for row in rows], progress.step - 1)
        seconds = [row[DIGEST:] for row in rows]
        slow = self.slow.new([row[0] for row in seconds], progress.epoch)
        for rank, times in slow.items():
            self.console.warn(f"rank {rank} on {hosts(self.world)[rank]} computes {times:.1f} x the median")
        return seconds

    def is_last_step(self) -> bool:
        """Whether the training ends with the newest step, for as long as nothing ends it earlier."""
        return self.state.progress.step >= self.last_step

    def is_over(self) -> bool:
        """Whether no step is left, or an evaluation has ended the training."""
        progress = self.state.progress
        if progress.ended == Ended.PATIENCE and not self._patience_is_over():  # the settings wait longer now
            progress.ended = ""
        return bool(progress.ended) or (self.is_last_step() and progress.evaluated_step == progress.step)

    def _patience_is_over(self) -> bool:
        progress, patience = self.state.progress, self.settings.train.patience
        return 0 < patience * self.batches.steps_per_epoch <= progress.step - progress.best_step

    def stop_reason(self) -> StopReason:
        """Why the ranks stop: the first rank's reason that has one. Called by all ranks."""
        return next(reason for reason in self.world.all_gather(self.interrupts.reason) if reason is not None)

    def evaluate(self) -> Metrics | None:
        """What decides which weights are the best, on all ranks; None if it was interrupted."""
        with compiling.uncompiled(self.state.module):
            self.metrics = self.evaluator.measure(self.state.module, self.state.average.module)
        return self.metrics

    def ended_early(self, metrics: Metrics) -> str:
        """What ends the training after this evaluation: `Ended`, or ''."""
        if self._patience_is_over():
            return Ended.PATIENCE.value
        is_enough = self.model.ends_early and self.world.rank0_decides(lambda: self.model.is_enough(metrics.values))
        return Ended.MODEL.value if is_enough else ""

    def _result(self) -> Metrics:
        """What a finished run has reached on the test set: with data.validation the weights of best.pt."""
        state, evaluator = self.state, self.evaluator
        with compiling.uncompiled(state.module):
            if evaluator.kind != VALIDATION:
                return self.metrics or evaluator.test(state.module, state.average.module)
            with self.checkpoints.best(state):
                metrics = evaluator.test(state.module, state.average.module)
        if self.dataset.has_test:
            self.tracker.evaluation(TEST, state.progress, metrics)
        kind = TEST if self.dataset.has_test else VALIDATION
        self.console.evaluation(kind, state.progress, f"{metrics}  (best.pt, step {state.progress.best_step})")
        return metrics

    def conclude(self) -> None:
        """The result of a finished run, for people and for machines. Called by all ranks."""
        progress, rate, metrics = self.state.progress, self.speed.rate(), self._result()
        facts: dict[str, object] = {**metrics.as_dict(), "samples_per_second": round(rate, 1)}
        facts |= self._early_facts()
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
        test = self.dataset.test.to(self.world.device)
        self.tracker.finish(pictures(self.model, self.state.module, self.dataset.spec, test, metrics))
        self.console.stop()
        path = self.run.path
        steps = f"{progress.epoch} epochs, {progress.step} steps"
        saved = [layout.checkpoint(path, progress.step), path / layout.METRICS, *[path / layout.REPORT] * written]
        self.console.rows(
            {
                "result": f"{', '.join(metrics.texts())}, {steps}{self._early()}",
                "speed": f"{rate:,.0f} samples/s in training, {self.console.seconds:.1f} s in all",
                "saved": ", ".join(map(str, saved)),
                "next": "; ".join(gallery.next_commands(path, self.model, self.state.module, self.dataset.spec)),
            }
        )
        self.repeat_warning()

    def _early_facts(self) -> dict[str, object]:
        """For status.json: why the training ended before its last step, nothing where it did not."""
        ended = self.state.progress.ended
        facts: dict[str, object] = {"ended": ended, "reason": self._early().removeprefix("; ")} if ended else {}
        return facts | ({"patience": self.settings.train.patience} if ended == Ended.PATIENCE else {})

    def _early(self) -> str:
        progress, patience = self.state.progress, self.settings.train.patience
        if progress.ended == Ended.PATIENCE:
            return f"; ended early: best at step {progress.best_step}, no better one for train.patience={patience}"
        return f"; ended early by {self.model.path.name}" if progress.ended else ""

    def repeat_warning(self) -> None:
        """Say again at the end that other data was trained on than asked for."""
        if self.dataset.note:
            self.console.print(self.dataset.headline)

    def stopped(self, reason: StopReason) -> None:
        """Say why the run stopped and how it goes on, for people and for machines. It has saved."""
        self.run.preempted(reason, self.state.progress)
        self.console.interrupted(reason, self.state.progress)
        if self.world.rank == 0:
            self._write_report(State.PREEMPTED)
        self.tracker.finish(None)

    @contextmanager
    def _reporting_failure(self) -> Iterator[None]:
        """An error leaves the page of the failed run; a signal that ends the job at once does not wait for it."""
        try:
            yield
        except Exception:
            if self.world.rank == 0:
                self._write_report(State.FAILED)
            raise

    def _write_report(self, state: State = State.FINISHED) -> bool:
        """The run on one page, report.html. Whatever goes wrong with it is a warning, and costs the run nothing."""
        try:
            from src.report import page  # only here: the start does not wait for it

            if state is State.FAILED:
                page.of_failed(self.run.path, self.settings)
                return True
            stopped = state is State.PREEMPTED
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
    dataset = dataset.held_out(settings.data.validation, train.seed)
    settings = run.on(settings, dataset)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((layout.directory(settings) / layout.COMPILED).absolute()))
    model, module, trial = build_model(settings, dataset, world)
    mirror = Mirror(layout.directory(settings), settings, world.rank == 0, console.print, console.warn)
    folder = Run(layout.directory(settings), world, settings, console.warn, mirror)
    saves = Requests(folder.path / layout.SAVE, settings.checkpoint.every_minutes, world.rank == 0)
    interrupts = Interrupts(folder.path / layout.STOP, train.max_minutes, saves)
    folder.open(dataset, lambda: interrupts.reason is not None)

    batches = batches_of(settings, dataset, model, world)
    state, last_step = state_of(settings, model, module, batches.steps_per_epoch)
    checkpoints = Checkpoints(folder, settings, world, dataset, console.warn, saves)
    interrupts.busy = lambda: checkpoints.in_flight
    origin = checkpoints.resume(state)
    if origin.start is Start.RESUMED and folder.was_finished(state.progress):
        mirror.catch_up()
        console.print(layout.finished_line(folder.path))
        return None

    if train.compile:
        compiling.compile_in_place(module, model.loss, *dataset.train.first(FEW, world.device))
    own = model.gradients if model.has_gradients else None
    gradients = build_gradients(module, model.loss, train, world, trial.stand_in, draws_from(model), trial.updated, own)
    tracker = Tracker(folder, settings, world, console.warn)
    checkpoints.flush_metrics = tracker.flush
    replicas = Replicas(world, module, state.average.module, checkpoints.last_saved, console.warn)
    checkpoints.check = replicas.check_now
    speed = Speed(state.progress)
    clock = Clock(speed.seconds, lambda: gradients.waited)
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
        evaluator=Evaluator(model, dataset, settings.evaluate, world, lambda: interrupts.reason is not None),
        tracker=tracker,
        interrupts=interrupts,
        speed=speed,
        replicas=replicas,
        clock=clock,
        slow=Slow([len(own) for own in shards_of(train, world.size)]),
        last_step=last_step,
        warn_once=files.once(console.warn),
    )


def build_model(settings: Config, dataset: DataSet, world: World) -> tuple[Model, nn.Module, Trial]:
    """The model's file, the module that it builds, and what came out when it was tried on a few samples."""
    train = settings.train
    model = models.load(config.model_path(settings.model), settings.model.settings)
    refuse_graph(train, world.device, world.size, draws_from(model))
    module = model.build(dataset.spec, train.seed).to(world.device)
    model.check(module, *dataset.train.first(FEW, world.device))
    shards, _ = local_shards(train, world)
    trial = try_shares(module, model.loss, dataset.train, train, shards, world.device)
    if train.rehearsal:
        rehearse(model, module, dataset, settings, world.device, min(trial.smallest, MOST))
    return model, module, trial


def draws_from(model: Model) -> set[str]:
    """The modules, besides torch, from which the model's file may draw random numbers."""
    return model_file.imports(model.path) & {"random", "numpy"}


def batches_of(settings: Config, dataset: DataSet, model: Model, world: World) -> ShardedLoader:
    """This rank's part of the training set."""
    shards, local = local_shards(settings.train, world)
    augment = model.augment if model.augments else None
    return ShardedLoader(dataset.train, settings.train, local, shards, world.device, augment, settings.data.shuffle)


def state_of(settings: Config, model: Model, module: nn.Module, steps_per_epoch: int) -> tuple[TrainState, int]:
    """(what training changes, as it is before the first step; the number of the last step)."""
    train, steps = settings.train, steps_per_epoch * settings.train.epochs
    last_step = min(steps, train.max_steps or steps)
    groups = model.parameter_groups(module, decay=settings.optim.weight_decay > 0)
    optimizer = Optimizer(groups, settings.optim, last_step, cuda_graph=train.cuda_graph)
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
    test = len(dataset.test) if dataset.has_test else "no"
    held_out = "" if dataset.validation is None else f", {len(dataset.validation)} {VALIDATION}"
    rows = {
        "world": f"{ranks}, {world.device.type}, backend {world.backend}, {train.threads} thread(s) each",
        "sync": gradients,
        "data": f"{dataset.name}: {len(dataset.train)} training{held_out} and {test} test samples",
        "best": f"best.pt is chosen on the {f'{VALIDATION} samples' if held_out else 'test set (data.validation=0)'}",
        "batch": f"global {train.global_batch_size} = {ranks} x {train.global_batch_size / world.size:g}",
        "track": tracker,
        "run": folder,
    }
    if share := norm_share(module, train, world):
        rows["norm"] = f"BatchNorm normalises {share}"
    return rows | ({"note": world.note} if world.note else {})
