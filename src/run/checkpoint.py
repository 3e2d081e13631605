"""The checkpoints of a run: written, pruned, chosen; a damaged one is set aside for the one before it."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src import config, schema
from src.errors import UserError
from src.optimizer import NonFinite, Optimizer
from src.run import archive
from src.run.progress import Progress
from src.run.run import Run
from src.schema import Config
from src.world.world import World

BEST = "best.pt"


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over the bytes of the state dict's tensors in order of their names (float32, C, little-endian)."""
    digest = hashlib.sha256()
    for _, tensor in sorted(module.state_dict().items()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass
class Training:
    """What a checkpoint holds, as living objects."""

    module: nn.Module
    optimizer: Optimizer
    progress: Progress

    def content(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "format": archive.FORMAT,
            "model": {name: tensor.detach().cpu().clone() for name, tensor in self.module.state_dict().items()},
            "optimizer": self.optimizer.torch.state_dict(),
            "progress": self.progress.as_dict(),
            "rng": torch.get_rng_state(),
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Become what was saved."""
        self.module.load_state_dict(content["model"])
        self.optimizer.torch.load_state_dict(content["optimizer"])
        self.progress.__dict__.update(content["progress"])
        torch.set_rng_state(content["rng"])


class Checkpoints:
    """The checkpoints of a run. Rank 0 writes and chooses; all ranks call every method."""

    def __init__(self, run: Run, settings: Config, world: World, data_sha256: str, warn: Callable[[str], None]) -> None:
        self._run, self._settings, self._world, self._warn = run, settings, world, warn
        self._data_sha256 = data_sha256
        self.folder = run.path / "checkpoints"
        self._saved = -1  # the step of the newest checkpoint

    def due(self, progress: Progress, epoch_ended: bool) -> bool:
        """Whether a checkpoint is to be written now."""
        chosen = self._settings.checkpoint
        if epoch_ended:
            return chosen.every_epochs > 0 and progress.epoch % chosen.every_epochs == 0
        return chosen.every_steps > 0 and progress.step % chosen.every_steps == 0

    def resume(self, training: Training) -> str:
        """Bring `training` to where the run, or the checkpoint of checkpoint.resume, is; say from where ('' if
        from nowhere). Raises UserError on all ranks.
        """
        source, content = self._world.first_decides(self._choose)
        if content is None:
            return ""
        if misfit := _misfit(training.module, content["model"]):
            if source != "own":
                raise UserError(f"checkpoint.resume={source}: does not fit the model: {misfit}")
            raise UserError(
                f"{self._run.path}: its checkpoint does not fit the model: {misfit}",
                fix="was its file changed? give another run.name, or checkpoint.resume=never",
            )
        if source != "own":
            training.module.load_state_dict(content["model"])
            return source
        training.restore(content)
        self._saved = training.progress.step
        return source

    def _choose(self) -> tuple[str, dict[str, Any] | None]:
        for stale in self.folder.glob(".*.part"):
            stale.unlink()
        if content := self._newest():
            if content["data_sha256"] != self._data_sha256:
                raise UserError(
                    f"{self._run.path}: was trained on other data (its files' SHA-256 were others)",
                    fix="bring the old files back, or give another run.name",
                )
            return "own", content
        if (chosen := self._settings.checkpoint.resume) in ("auto", "never"):
            return "", None
        try:
            return chosen, archive.read(Path(chosen))
        except (archive.Damaged, UserError) as error:
            raise UserError(f"checkpoint.resume={error}") from None

    def _newest(self) -> dict[str, Any] | None:
        newest_first = sorted(self.folder.glob("step-*.pt"), reverse=True)
        damaged = 0
        for file in [*newest_first, *self.folder.glob(BEST)]:
            try:
                return archive.read(file)
            except archive.Damaged as error:
                damaged += 1
                aside = file.with_name(f"{file.name}.damaged")
                os.replace(file, aside)
                self._warn(f"DAMAGED: {error}; set aside as {aside.name}, looking for the one before")
                self._run.event("damaged", file=file.name)
        if damaged:
            self._warn(f"DAMAGED: {self.folder} has no good checkpoint left: training starts anew")
        return None

    def save(self, training: Training, best: bool = False) -> None:
        """Write a checkpoint, then prune. A full disk is said, costs nothing, and is tried again at the next."""
        if self._world.rank == 0:
            try:
                self._save(training, best)
            except OSError as error:
                self._warn(f"{self.folder}: {error.strerror}: this checkpoint is lost, the one before it is safe")
                self._run.event("checkpoint failed", step=training.progress.step, reason=error.strerror)

    def save_last(self, training: Training) -> None:
        """Write the checkpoint that the job leaves; UserError on all ranks if it cannot."""

        def decide() -> None:
            try:
                if self._saved != training.progress.step:
                    self._save(training, False)
            except OSError as error:
                raise UserError(f"{self.folder}: {error.strerror}", fix="make room and run the same command") from None

        self._world.first_decides(decide)

    def _save(self, training: Training, best: bool) -> None:
        progress, began = training.progress, time.perf_counter()
        for name, tensor in training.module.state_dict().items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise NonFinite(f"{name} is not finite at step {progress.step}: no checkpoint is made of it")
        content = training.content() | {
            "config": config.as_dict(self._settings),
            "fingerprint": schema.fingerprint(self._settings),
            "data_sha256": self._data_sha256,
            "torch": str(torch.__version__),
        }
        file = self.folder / f"step-{progress.step:08d}.pt"
        digest = archive.write(file, content)
        self._saved = progress.step
        if best:
            self._mark_best(file)
        for old in sorted(self.folder.glob("step-*.pt"))[: -self._settings.checkpoint.keep]:
            old.unlink()
        milliseconds = round(1000 * (time.perf_counter() - began), 2)
        self._run.event("checkpoint", step=progress.step, sha256=digest, milliseconds=milliseconds, best=best)

    def _mark_best(self, file: Path) -> None:
        """Give the file a second name: no second copy, and it outlives the pruning of the first."""
        temporary = file.with_name(f".{BEST}.part")
        temporary.unlink(missing_ok=True)
        os.link(file, temporary)
        os.replace(temporary, file.with_name(BEST))
        archive.sync(file.parent)


def _misfit(module: nn.Module, weights: dict[str, Tensor]) -> str:
    """Which tensors have other shapes than the module's, or ''."""
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    differing = sorted(name for name in own | found if own.get(name) != found.get(name))
    return ", ".join(f"{name} {found.get(name)}, expected {own.get(name)}" for name in differing[:3])
