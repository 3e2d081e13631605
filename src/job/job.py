"""What the training loop needs, and what it asks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from src.clock import Clock
from src.console import Console
from src.data.dataset import DataSet
from src.data.loader import ShardedLoader
from src.evaluation.evaluator import Evaluator
from src.evaluation.metrics import Metrics
from src.gradients.build import Gradients
from src.interrupts import Interrupts
from src.job.notes import Notes
from src.job.page import Page
from src.models import Model, compiling
from src.run.checkpoint import Checkpoints
from src.run.layout import Ended, StopReason
from src.run.progress import Speed
from src.run.run import Run
from src.run.state import TrainState
from src.schema import Config
from src.tracking.tracker import Tracker
from src.world.world import World


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
    page: Page
    interrupts: Interrupts
    speed: Speed
    clock: Clock
    notes: Notes
    last_step: int
    warn_once: Callable[[str], None]
    metrics: Metrics | None = None

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever ends the block badly is written into status.json and report.html, and ends the tracking."""
        with self.run.mirror.failing(), self.page.failing(), self.tracker.failing(), self.run.failing():
            with self.checkpoints.failing(), self.world.naming_lost_peers():
                yield

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
