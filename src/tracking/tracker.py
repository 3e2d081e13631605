"""The record of a run: metrics.jsonl always, Weights & Biases where wanted. Never stops the training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from src import config, gallery
from src.console import Console
from src.data.dataset import Split
from src.evaluation import Metrics
from src.models.logistic import CLASSES, SHAPE
from src.run.jsonl import Lines
from src.run.progress import Progress
from src.run.run import Run
from src.schema import Config
from src.tracking import account, wandb_uploader
from src.tracking.wandb_uploader import Copy
from src.world.world import World

FAILED_SECONDS = 5.0  # a job that failed must be gone soon: its record is safe
WRONG = 20  # rows in the table of the most wrong samples


class Tracker:
    """Rank 0 records; on the others every method does nothing. metrics.jsonl is the truth, W&B a copy."""

    def __init__(self, run: Run, settings: Config, world: World, console: Console) -> None:
        self._first, self._run, self._settings, self._console = world.rank == 0, run, settings, console
        self._lines = Lines(run.path / "metrics.jsonl", console.warn) if self._first else None
        self._copy: Copy | None = None
        self._mode = account.mode(settings.track)

    @property
    def name(self) -> str:
        """For the banner."""
        return "metrics.jsonl" + ("" if self._mode == "disabled" else f", W&B {self._mode}")

    def begin(self, progress: Progress) -> None:
        """Forget what was recorded after the state that training goes on from, and start the copy."""
        if self._lines is None:
            return
        self._lines.truncate(progress.record)
        if self._mode != "disabled":
            facts = config.as_dict(self._settings) | {"provenance": self._run.provenance}
            self._copy = Copy(self._run.path, self._settings.track, facts, self._console.warn)
            self._copy.begin()

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

    def finish(self, module: nn.Module, test: Split, metrics: Metrics | None) -> None:
        """Send the rest to W&B, and what status.json says; `metrics` belong to a finished run."""
        if self._copy is None:
            return
        summary = {name: value for name, value in self._run.facts.items() if name != "time"}
        shown = None if metrics is None else pictures(module, test, metrics, self._settings.train.loss)
        self._copy.end(summary, shown)
        self._copy.finish()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever ends the block badly ends the copy too, as far as it comes in a few seconds."""
        try:
            yield
        except BaseException as error:
            if self._copy is not None:
                self._copy.end({"state": "failed", "reason": str(error)}, None, exit_code=1)
                self._copy.join(FAILED_SECONDS)
            raise


def pictures(module: nn.Module, test: Split, metrics: Metrics, loss: str) -> wandb_uploader.Pictures:
    """What W&B shows of a finished run, made with its package: templates, confusion matrix, most wrong digits."""

    def make(wandb: Any) -> dict[str, Any]:
        rows = [[truth, *row] for truth, row in enumerate(metrics.confusion)]
        shown: dict[str, Any] = {
            "confusion": wandb.Table(columns=["truth", *(f"guess {digit}" for digit in range(CLASSES))], data=rows),
            "most_wrong": wandb.Table(
                columns=["image", "index", "truth", "guess", "probability"],
                data=[
                    [wandb.Image(_picture(test, wrong.index)), wrong.index, wrong.truth, wrong.guess, wrong.probability]
                    for wrong in gallery.most_wrong(module, test, loss, WRONG)
                ],
            ),
        }
        if len(weights := gallery.templates(module)):
            grey = gallery.grey(weights).numpy()
            shown["templates"] = [wandb.Image(picture, caption=str(digit)) for digit, picture in enumerate(grey)]
        return shown

    return make


def _picture(test: Split, index: int) -> Any:
    """An image as W&B takes it: (height, width), or with its channels last."""
    picture = test.images[index].view(SHAPE).cpu()
    return (picture.movedim(0, -1) if picture.dim() == 3 else picture).numpy()
