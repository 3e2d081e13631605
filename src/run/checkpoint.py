"""The checkpoints of a run: written beside the training, and pruned."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from src import config, files, fingerprint, model_file
from src.data.dataset import DataSet
from src.errors import Damaged, NonFinite, TryAgain, UserError
from src.run import archive, choosing, layout
from src.run.layout import State
from src.run.progress import Progress
from src.run.requests import Identity, Requests
from src.run.run import Origin, Run, Start
from src.run.saving import Saving
from src.run.state import TrainState, tensors_of
from src.schema import Config
from src.world.world import World

Check = Callable[[int, Callable[[], int | None]], None]


@dataclass(frozen=True)
class _Snapshot:
    """A copy of what training changes, in the memory of the host; the file SAVE that it is for, the seconds it took."""

    step: int
    epoch: int
    content: dict[str, Any]
    asked_by: Identity | None
    seconds: float


class Checkpoints:
    """The checkpoints of a run. Rank 0 writes and chooses; all ranks call every method.

    A save is a copy of the state on the training thread and a write on another one, that of `saving`. `flush_metrics`
    makes what was measured before the copy safe on the disk, ahead of the checkpoint; `check` is asked on all ranks
    before a state is saved, with its step and `last_saved`, and raises where it must not be.
    """

    def __init__(
        self,
        run: Run,
        settings: Config,
        world: World,
        dataset: DataSet,
        warn: Callable[[str], None],
        requests: Requests,
        saving: Saving,
        flush_metrics: Callable[[], None] = lambda: None,
        check: Check = lambda step, last_saved: None,
    ) -> None:
        self._run, self._settings, self._world, self._warn = run, settings, world, warn
        self._dataset = dataset
        self._code = model_file.code_sha256(config.model_path(settings.model))
        self._description = self._described()
        self.folder = run.path / layout.CHECKPOINTS
        self._requests, self._saving, self._flush_metrics, self._check = requests, saving, flush_metrics, check
        self._saved_step: int | None = None  # of the newest checkpoint that is written
        self._taken_step: int | None = None  # of the newest copy
        self._unwritten: _Snapshot | None = None  # the newest copy, until it is written
        self._warnings = files.Warnings(warn)

    def last_saved(self) -> int | None:
        """The step of the newest checkpoint, once what is being written is written (rank 0)."""
        self._saving.settle()
        return self._saved_step

    def due_at_step(self, progress: Progress) -> bool:
        """Whether checkpoint.every_steps wants one after this step."""
        every = self._settings.checkpoint.every_steps
        return every > 0 and progress.step % every == 0

    def due_at_epoch(self, progress: Progress) -> bool:
        """Whether checkpoint.every_epochs wants one at the end of the epoch that is being trained."""
        every = self._settings.checkpoint.every_epochs
        return every > 0 and (progress.epoch + 1) % every == 0

    def resume(self, state: TrainState) -> Origin:
        """Bring `state` to where the run, or the checkpoint of checkpoint.resume, is; returns from where.

        Raises UserError on all ranks.
        """
        return self._restore(
            state,
            *self._world.rank0_decides(
                lambda: choosing.choose(self._run, self._settings, self._dataset, self._warn),
            ),
        )

    def look(self, state: TrainState, has_sums: bool) -> Origin:
        """As `resume`, and changes nothing on the disk; the data are compared where their checksums are known."""
        dataset = self._dataset if has_sums else None
        return self._restore(
            state, *self._world.rank0_decides(lambda: choosing.look(self._run, self._settings, dataset, self._warn))
        )

    def _restore(self, state: TrainState, origin: Origin, content: dict[str, Any] | None) -> Origin:
        if content is None:
            return origin
        if misfit := choosing.misfit(state.module, content["model"]):
            if origin.start is Start.WEIGHTS:
                raise UserError(f"checkpoint.resume={origin.file}: does not fit the model: {misfit}")
            raise UserError(
                f"{self._run.path}: its checkpoint does not fit the model: {misfit}",
                fix="was its file changed? give another run.name, or checkpoint.resume=never",
            )
        if origin.start is Start.WEIGHTS:
            state.load_weights(content["model"])
        else:
            state.load_state_dict(content)
            self._saved_step = self._taken_step = state.progress.step
        return origin

    def save(self, state: TrainState) -> None:
        """Take a copy of the state; it is written beside the training, and old checkpoints are pruned after it.

        One save is in flight at most: the next one waits for it. A full disk is reported, costs nothing, and is tried
        again at the next. Raises NonFinite on all ranks for weights that are not finite.
        """
        self._check(state.progress.step, self.last_saved)
        self._world.rank0_decides(lambda: self._begin(state))

    def size(self, state: TrainState) -> int:
        """The bytes of a checkpoint of this state; takes a copy of it."""
        return archive.size(self._snapshot(state).content | self._description)

    def mark_best(self, state: TrainState) -> None:
        """Give the checkpoint of this step, saved now where it is not, a second name: best.pt."""
        step = state.progress.step
        self._check(step, self.last_saved)

        def mark() -> None:
            if (unwritten := self._unwritten) is not None:  # its save failed, and may work now
                self._write(unwritten)
            files.link_or_copy(layout.checkpoint(self._run.path, step), self.folder / layout.BEST)
            self._run.mirror.request()

        def decide() -> None:
            if self._taken_step != step:
                self._begin(state)
            self._saving.add(lambda: self._try(mark, step))

        self._world.rank0_decides(decide)

    @contextmanager
    def best(self, state: TrainState) -> Iterator[None]:
        """Inside, `state` has the weights and averages of best.pt, where there is one. Called by all ranks."""
        if state.progress.best_step == state.progress.step:
            yield
            return
        content = self._world.rank0_decides(self._read_best)
        before = state.weights()
        try:
            if content is not None:
                state.load_best(content)
            yield
        finally:
            state.load_best(before)

    def _read_best(self) -> dict[str, Any] | None:
        try:
            return archive.read(self.folder / layout.BEST)
        except (Damaged, UserError) as error:
            self._warn(f"{error}; the newest weights are measured instead")
            return None

    def save_last(self, state: TrainState) -> None:
        """Write the checkpoint that the job leaves; TryAgain on all ranks if it cannot."""
        self._check(state.progress.step, self.last_saved)

        def decide() -> None:
            self._saving.wait()
            progress = state.progress
            try:
                there = files.exists(layout.checkpoint(self._run.path, progress.step))
                if self._saved_step != progress.step or not there:
                    self._write(self._snapshot(state))
            except OSError as error:
                saved = f"step {self._saved_step} is" if self._saved_step else "nothing is"
                raise TryAgain(
                    f"{self.folder}: {files.reason(error)}: step {progress.step} cannot be saved, {saved}; "
                    f"{files.advice(error)}, and run the same command"
                ) from None

        self._world.rank0_decides(decide)

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Whatever ends the block badly waits for what is being saved."""
        try:
            yield
        except BaseException:
            self._saving.settle()
            raise

    def _begin(self, state: TrainState) -> None:
        self._saving.wait()
        snapshot = self._unwritten = self._snapshot(state)
        self._taken_step = snapshot.step
        self._saving.add(lambda: self._try(lambda: self._write(snapshot), snapshot.step))

    def _try(self, write: Callable[[], None], step: int) -> None:
        try:
            write()
        except OSError as error:
            consequence = ": this checkpoint is lost, the one before it is safe; training goes on, and tries again"
            self._warnings.failed(str(self.folder), error, consequence)
            self._run.event("checkpoint failed", step=step, reason=files.reason(error))

    def _snapshot(self, state: TrainState) -> "_Snapshot":
        """A copy of the state, which training does not change. Raises NonFinite, also for steps that moved nothing."""
        progress, began, asked_by = state.progress, time.perf_counter(), self._requests.take()
        state.optimizer.refuse_bad(progress.step - 1)
        if name := _not_finite(state.module):
            raise NonFinite(f"{name} is not finite at step {progress.step}: no checkpoint is made of it")
        content = {"format": archive.FORMAT} | state.state_dict()
        return _Snapshot(progress.step, progress.epoch, content, asked_by, time.perf_counter() - began)

    def _write(self, snapshot: "_Snapshot") -> None:
        """Write the checkpoint, then prune. Raises OSError, and UserError where another job has taken the folder."""
        began = time.perf_counter()
        self._flush_metrics()
        self._run.remake()
        files.make_folder(self.folder)
        digest = archive.write(layout.checkpoint(self._run.path, snapshot.step), snapshot.content | self._description)
        self._saved_step, self._unwritten = snapshot.step, None
        self._warnings.worked(str(self.folder))
        self._requests.done(snapshot.asked_by)
        self._prune()
        took = {"milliseconds": time.perf_counter() - began, "copy_milliseconds": snapshot.seconds}
        rounded = {name: round(1000 * seconds, 2) for name, seconds in took.items()}
        self._run.event("checkpoint", step=snapshot.step, sha256=digest, **rounded)
        self._run.status(State.RUNNING, epoch=snapshot.epoch, step=snapshot.step)
        self._run.mirror.request()

    def _described(self) -> dict[str, Any]:
        """What a checkpoint says of itself beside the state: the same for each, and not made by the saving thread."""
        return {
            "config": config.as_dict(self._settings),
            "fingerprint": fingerprint.fingerprint(self._settings),
            "data_sha256": self._dataset.fingerprint,
            "data": dataclasses.asdict(self._dataset.spec),
            "model_sha256": self._code,
            "torch": str(torch.__version__),
        }

    def _prune(self) -> None:
        try:
            for old in layout.newest_first(self.folder)[self._settings.checkpoint.keep :]:
                old.unlink()
        except OSError as error:
            self._warn(f"{self.folder}: {files.reason(error)}: old checkpoints stay")


def _not_finite(module: nn.Module) -> str:
    """The name of a tensor with a number that is not finite, '' if there is none. A buffer may be a mask of -inf."""
    buffers = {name for name, _ in module.named_buffers()}
    for name, tensor in tensors_of(module.state_dict()).items():
        # A sum is read in a fifth of the time; finite numbers may overflow in it, and a mask is infinite.
        if tensor.is_floating_point() and not math.isfinite(tensor.sum().item()):
            bad = torch.isnan(tensor) if name in buffers else ~torch.isfinite(tensor)
            if bool(bad.any()):
                return name
    return ""
