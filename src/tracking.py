"""The record of a run: metrics.jsonl always, Weights & Biases where wanted. Never stops the training."""

from typing import Any

from src.config import Config
from src.console import Console
from src.distributed import World
from src.evaluate import Metrics
from src.lines import Lines
from src.progress import Progress
from src.run import Run


class Tracker:
    """Rank 0 records; on the others every method does nothing. metrics.jsonl is the truth, W&B a copy."""

    def __init__(self, run: Run, settings: Config, world: World, console: Console) -> None:
        self._lines = Lines(run.path / "metrics.jsonl", console.warn) if world.rank == 0 else None

    def resume(self, progress: Progress) -> None:
        """Forget what was recorded after the state that training goes on from."""
        if self._lines is not None:
            self._lines.truncate(progress.record)

    def train(self, progress: Progress, loss: float, lr: float, rate: float) -> None:
        """Record a stretch of training: the mean loss over all samples since the last one."""
        self._log("train", progress, loss=loss, lr=lr, samples_per_second=round(rate, 1))

    def evaluation(self, progress: Progress, metrics: Metrics) -> None:
        """Record what the weights get right after an epoch."""
        self._log("test", progress, **metrics.as_dict())

    def position(self) -> int:
        """Bytes of metrics.jsonl that are safe on the disk, for the checkpoint."""
        return self._lines.position() if self._lines is not None else 0

    def _log(self, kind: str, progress: Progress, **values: Any) -> None:
        if self._lines is None:
            return
        where = {"epoch": progress.epoch + 1, "step": progress.step, "samples_seen": progress.samples_seen}
        self._lines.append(kind=kind, **where, **values)
