"""How far the training is: what a checkpoint must hold to go on as if nothing had happened."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor


@dataclass
class Progress:
    """Counts over all ranks. The order of the samples is a function of (seed, epoch), so counts are enough."""

    epoch: int = 0  # whole epochs done, their evaluation included
    step_in_epoch: int = 0
    step: int = 0
    samples_seen: int = 0
    loss_sum: float | Tensor = 0.0  # since the last line of metrics.jsonl
    loss_items: float | Tensor = 0.0
    best: float | None = None  # the best value so far of the metric that decides
    best_step: int = 0
    best_weights: str = "raw"  # or "average", where averaged weights were better
    evaluated_step: int = 0  # of the newest evaluation
    ended: str = ""  # what ended the training before its last step: layout.Ended
    metrics_bytes: int = 0  # of metrics.jsonl that belong to this state

    def advance(self, loss: float | Tensor, items: float | Tensor, samples: int) -> None:
        """One step was made with `samples` samples; `loss` is the sum over its `items`."""
        self.step_in_epoch += 1
        self.step += 1
        self.samples_seen += samples
        self.loss_sum = self.loss_sum + loss
        self.loss_items = self.loss_items + items

    @property
    def has_loss(self) -> bool:
        """Whether the loss of a step was not taken yet."""
        return not isinstance(self.loss_items, float) or self.loss_items > 0

    def take_loss(self) -> tuple[float, float]:
        """(mean loss, number of items) since this was last asked for."""
        loss, items = float(self.loss_sum), float(self.loss_items)
        self.loss_sum, self.loss_items = 0.0, 0.0
        return (loss / items if items else math.nan), items

    def next_epoch(self) -> None:
        """The epoch's last step is made and evaluated."""
        self.epoch += 1
        self.step_in_epoch = 0

    def is_best(self, value: float, higher_is_better: bool, weights: str = "raw") -> bool:
        """Whether no evaluation before was better; remembers it, and which weights were ("raw" or "average")."""
        if math.isnan(value):
            return False
        if self.best is not None and not (value > self.best if higher_is_better else value < self.best):
            return False
        self.best, self.best_step, self.best_weights = value, self.step, weights
        return True

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self) | {"loss_sum": float(self.loss_sum), "loss_items": float(self.loss_items)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what was saved; format 1 had other names for two numbers."""
        state = dict(state)
        if "loss_count" in state:
            correct = state.pop("best_correct")
            state |= {"loss_items": float(state.pop("loss_count")), "metrics_bytes": state.pop("record")}
            state["best"] = None if correct < 0 else float(correct)
        self.__dict__.update(state)


class Speed:
    """Samples per second of training alone: evaluation, checkpoints and output do not count."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._seconds, self._samples = 0.0, 0
        self._began, self._samples_before = 0.0, 0

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Around the steps: their time, and the samples that the progress advances by."""
        self._start()
        try:
            yield
        finally:
            self._stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside `timing`, around what does not count."""
        self._stop()
        try:
            yield
        finally:
            self._start()

    def rate(self) -> float:
        """Samples per second over all that was timed, 0 if nothing was. Not to be asked inside `timing`."""
        return self._samples / self._seconds if self._seconds else 0.0

    def seconds(self) -> float:
        """The seconds of training so far. To be asked inside `timing`."""
        return self._seconds + time.perf_counter() - self._began

    def _start(self) -> None:
        self._began, self._samples_before = time.perf_counter(), self._progress.samples_seen

    def _stop(self) -> None:
        self._seconds += time.perf_counter() - self._began
        self._samples += self._progress.samples_seen - self._samples_before
