"""What a run measures: metrics.jsonl always, Weights & Biases where wanted. Never stops the training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from src import clock, config, files
from src.evaluation.metrics import Metrics
from src.run import layout, results, tables
from src.run.jsonl import Lines
from src.run.progress import Progress
from src.run.run import Run
from src.schema import Config
from src.tracking import account
from src.tracking.wandb_uploader import Pictures, WandbUploader
from src.world.world import World

FAILED_SECONDS = 5.0  # a job that failed must be gone soon: metrics.jsonl is safe


class Tracker:
    """Rank 0 writes; on the others every method does nothing. W&B is sent what is in metrics.jsonl."""

    def __init__(self, run: Run, settings: Config, world: World, warn: Callable[[str], None]) -> None:
        self._run, self._settings, self._warn = run, settings, warn
        self._warn_once = files.once(warn)
        self._lines = Lines(run.path / layout.METRICS, warn) if world.rank == 0 else None
        self._uploader: WandbUploader | None = None
        self._mode = account.mode(settings.track)

    @property
    def name(self) -> str:
        """For the banner."""
        return "metrics.jsonl" + ("" if self._mode == "disabled" else f", W&B {self._mode}")

    def begin(self, progress: Progress) -> None:
        """Forget the lines after the state that training goes on from, and start the upload."""
        if self._lines is None:
            return
        self._lines.truncate(progress.metrics_bytes)
        tables.forget_after(self._run.path, progress.step)
        if self._mode != "disabled":
            facts = config.as_dict(self._settings) | {"provenance": self._run.provenance}
            self._uploader = WandbUploader(self._run.path, self._settings.track, facts, self._warn)
            self._uploader.begin()

    def train(
        self,
        progress: Progress,
        loss: float,
        lr: float,
        rate: float,
        grad_norm: float | Tensor | None = None,
        seconds: Sequence[clock.Row] | None = None,
    ) -> None:
        """Write a stretch of training: the mean loss over all items since the last one, and of the newest step the
        learning rate and the norm of the gradient, where gradients are clipped; where the time of each rank went.
        """
        more: dict[str, Any] = {} if grad_norm is None else {"grad_norm": float(grad_norm)}
        more |= {} if seconds is None else {clock.SECONDS: clock.line(seconds)}
        self._write("train", progress, loss=loss, lr=lr, **more, samples_per_second=round(rate, 1))

    def evaluation(self, kind: str, progress: Progress, metrics: Metrics) -> None:
        """Write what was measured on the test or the validation samples (`kind`), and how to read it."""
        self._write(kind, progress, **metrics.as_dict())
        if self._lines is not None:
            described = metrics.tables | {results.DESCRIPTION: metrics.description}
            tables.write(self._run.path, progress.step, described, self._warn_once)

    def position(self) -> int:
        """Bytes of metrics.jsonl that belong to a checkpoint of this moment."""
        return self._lines.position() if self._lines is not None else 0

    def flush(self) -> None:
        """Make them safe on the disk. Another thread may call it."""
        if self._lines is not None:
            self._lines.flush()

    def _write(self, kind: str, progress: Progress, **values: Any) -> None:
        if self._lines is None:
            return
        epoch = max(1, progress.epoch + (progress.step_in_epoch > 0))  # of the newest step
        where = {"epoch": epoch, "step": progress.step, "samples_seen": progress.samples_seen}
        self._lines.append(kind=kind, **where, **values)

    def finish(self, pictures: Pictures | None) -> None:
        """Send the rest to W&B, and the content of status.json; a finished run has pictures."""
        if self._uploader is None:
            return
        self._uploader.end({name: value for name, value in self._run.facts.items() if name != "time"}, pictures)
        self._uploader.finish()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever ends the block badly ends the upload too, as far as it comes in a few seconds."""
        try:
            yield
        except BaseException as error:
            if self._uploader is not None:
                self._uploader.end({"state": "failed", "reason": str(error)}, None, exit_code=1)
                self._uploader.join(FAILED_SECONDS)
            raise
