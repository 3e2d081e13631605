"""How far the training is: what a checkpoint must know to go on as if nothing had happened."""

import time
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor


@dataclass
class Progress:
    """Counts over all ranks. The order of the samples is a function of (seed, epoch), so counts are enough."""

    epoch: int = 0  # whole epochs done
    step_in_epoch: int = 0
    step: int = 0
    samples_seen: int = 0
    loss_sum: float | Tensor = 0.0  # since the last line of metrics.jsonl
    loss_count: int = 0
    best_correct: int = -1
    best_step: int = 0
    record: int = 0  # bytes of metrics.jsonl that belong to this state

    def advance(self, loss: float | Tensor, count: int) -> None:
        """One step was made with `count` samples, whose losses add up to `loss`."""
        self.step_in_epoch += 1
        self.step += 1
        self.samples_seen += count
        self.loss_sum = self.loss_sum + loss
        self.loss_count += count

    def take_loss(self) -> float:
        """The mean loss since this was last asked for."""
        mean = float(self.loss_sum) / self.loss_count
        self.loss_sum, self.loss_count = 0.0, 0
        return mean

    def next_epoch(self) -> None:
        """The epoch's last step is made and evaluated."""
        self.epoch += 1
        self.step_in_epoch = 0

    def is_best(self, correct: int) -> bool:
        """Whether no epoch before got so many right; remembers it."""
        if correct <= self.best_correct:
            return False
        self.best_correct, self.best_step = correct, self.step
        return True

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self) | {"loss_sum": float(self.loss_sum)}


class Speed:
    """Samples per second of training alone: evaluation and checkpoints do not count."""

    def __init__(self) -> None:
        self._seconds, self._samples = 0.0, 0
        self._began, self._had = 0.0, 0

    def start(self, progress: Progress) -> None:
        """Training goes on."""
        self._began, self._had = time.perf_counter(), progress.samples_seen

    def stop(self, progress: Progress) -> None:
        """Something else begins."""
        self._seconds += time.perf_counter() - self._began
        self._samples += progress.samples_seen - self._had
        self._had = progress.samples_seen

    def rate(self) -> float:
        """Samples per second over all that was timed, 0 if nothing was."""
        return self._samples / self._seconds if self._seconds else 0.0
