"""The checkpoints of a run: written, pruned, chosen; a damaged one is set aside for the one before it."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from src import config, files, fingerprint, model_file
from src.data.dataset import DataSet
from src.errors import Damaged, NonFinite, TryAgain, UserError
from src.run import archive, layout
from src.run.layout import State
from src.run.progress import Progress
from src.run.run import Origin, Run, Start
from src.run.state import TrainState, Weights
from src.schema import Config
from src.world.world import World

BEST = "best.pt"


class Checkpoints:
    """The checkpoints of a run. Rank 0 writes and chooses; all ranks call every method."""

    def __init__(self, run: Run, settings: Config, world: World, dataset: DataSet, warn: Callable[[str], None]) -> None:
        self._run, self._settings, self._world, self._warn = run, settings, world, warn
        self._dataset = dataset
        self._code = model_file.code_sha256(config.model_path(settings.model))
        self.folder = run.path / layout.CHECKPOINTS
        self._saved_step: int | None = None  # of the newest checkpoint
        self._warnings = files.Warnings(warn)

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
        origin, content = self._world.rank0_decides(self._choose)
        if content is None:
            return origin
        if misfit := _misfit(state.module, content["model"]):
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
            self._saved_step = state.progress.step
        return origin

    def _choose(self) -> tuple[Origin, dict[str, Any] | None]:
        try:
            for stale in self.folder.glob(".*.part"):
                stale.unlink()
            return self._chosen()
        except OSError as error:
            raise UserError(
                f"{self.folder}: {files.reason(error)}", fix=files.advice(error, "name another folder with run.root=")
            ) from None

    def _chosen(self) -> tuple[Origin, dict[str, Any] | None]:
        if content := self._newest():
            if content["data_sha256"] != self._dataset.fingerprint:
                raise UserError(
                    f"{self._run.path}: was trained on other data (its files' SHA-256 were others)",
                    fix="bring the old files back, or give another run.name",
                )
            return Origin(Start.RESUMED), content
        if (chosen := self._settings.checkpoint.resume) in ("auto", "never"):
            return Origin(Start.NEW), None
        try:
            content = archive.read(Path(chosen))
        except (Damaged, UserError) as error:
            raise UserError(f"checkpoint.resume={error}") from None
        if content.get("model_sha256", self._code) != self._code:
            self._warn(f"checkpoint.resume={chosen}: is of another version of the model's file; its weights are taken")
        return Origin(Start.WEIGHTS, chosen), content

    def _newest(self) -> dict[str, Any] | None:
        damaged = 0
        for file in [*layout.newest_first(self.folder), *self.folder.glob(BEST)]:
            try:
                return archive.read(file)
            except Damaged as error:
                damaged += 1
                aside = file.with_name(f"{file.name}.damaged")
                os.replace(file, aside)
                self._warn(f"DAMAGED: {error}; set aside as {aside.name}, looking for the one before")
                self._run.event("damaged", file=file.name)
        if damaged:
            self._warn(f"DAMAGED: {self.folder} has no good checkpoint left: training starts anew")
        return None

    def save(self, state: TrainState) -> None:
        """Write a checkpoint, then prune. A full disk is reported, costs nothing, and is tried again at the next.

        Raises NonFinite on all ranks for weights that are not finite.
        """
        self._world.rank0_decides(lambda: self._try(lambda: self._save(state), state.progress.step))

    def mark_best(self, state: TrainState) -> None:
        """Give the checkpoint of this step, written now where there is none, a second name: best.pt."""

        def mark() -> None:
            if self._saved_step != state.progress.step:
                self._save(state)
            files.link_or_copy(layout.checkpoint(self._run.path, state.progress.step), self.folder / BEST)

        self._world.rank0_decides(lambda: self._try(mark, state.progress.step))

    def save_last(self, state: TrainState) -> None:
        """Write the checkpoint that the job leaves; TryAgain on all ranks if it cannot."""

        def decide() -> None:
            progress = state.progress
            try:
                there = files.exists(layout.checkpoint(self._run.path, progress.step))
                if self._saved_step != progress.step or not there:
                    self._save(state)
            except OSError as error:
                saved = f"step {self._saved_step} is" if self._saved_step else "nothing is"
                raise TryAgain(
                    f"{self.folder}: {files.reason(error)}: step {progress.step} cannot be saved, {saved}; "
                    f"{files.advice(error)}, and run the same command"
                ) from None

        self._world.rank0_decides(decide)

    def _try(self, write: Callable[[], None], step: int) -> None:
        try:
            write()
        except OSError as error:
            consequence = ": this checkpoint is lost, the one before it is safe; training goes on, and tries again"
            self._warnings.failed(str(self.folder), error, consequence)
            self._run.event("checkpoint failed", step=step, reason=files.reason(error))

    def _save(self, state: TrainState) -> None:
        progress, began = state.progress, time.perf_counter()
        buffers = {name for name, _ in state.module.named_buffers()}
        for name, tensor in state.module.state_dict().items():
            # A buffer may be a mask of -inf.
            bad = torch.isnan(tensor) if name in buffers else ~torch.isfinite(tensor)
            if tensor.is_floating_point() and bool(bad.any()):
                raise NonFinite(f"{name} is not finite at step {progress.step}: no checkpoint is made of it")
        content = {"format": archive.FORMAT} | state.state_dict()
        content |= {
            "config": config.as_dict(self._settings),
            "fingerprint": fingerprint.fingerprint(self._settings),
            "data_sha256": self._dataset.fingerprint,
            "data": dataclasses.asdict(self._dataset.spec),
            "model_sha256": self._code,
            "torch": str(torch.__version__),
        }
        self._run.remake()
        files.make_folder(self.folder)
        digest = archive.write(layout.checkpoint(self._run.path, progress.step), content)
        self._saved_step = progress.step
        self._warnings.worked(str(self.folder))
        self._prune()
        milliseconds = round(1000 * (time.perf_counter() - began), 2)
        self._run.event("checkpoint", step=progress.step, sha256=digest, milliseconds=milliseconds)
        self._run.status(State.RUNNING, epoch=progress.epoch, step=progress.step)

    def _prune(self) -> None:
        try:
            for old in layout.newest_first(self.folder)[self._settings.checkpoint.keep :]:
                old.unlink()
        except OSError as error:
            self._warn(f"{self.folder}: {files.reason(error)}: old checkpoints stay")


def _misfit(module: nn.Module, weights: Weights) -> str:
    """Which tensors have other shapes than the module's, or ''."""
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    differing = sorted(name for name in expected | given if expected.get(name) != given.get(name))
    return ", ".join(f"{name} {given.get(name)}, expected {expected.get(name)}" for name in differing[:3])
