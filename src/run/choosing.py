"""Which checkpoint training goes on from; a damaged one is set aside for the one before it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from src import config, files, model_file
from src.data.dataset import DataSet
from src.errors import Damaged, UserError
from src.run import archive, layout
from src.run.run import Origin, Run, Start
from src.run.state import Weights
from src.schema import Config

Warn = Callable[[str], None]


def choose(run: Run, settings: Config, dataset: DataSet, warn: Warn) -> tuple[Origin, dict[str, Any] | None]:
    """(what training begins with, the content of the checkpoint that it is read from). Raises UserError."""
    folder = run.path / layout.CHECKPOINTS
    try:
        for stale in folder.glob(".*.part"):
            stale.unlink()
        return _chosen(run, settings, dataset, warn)
    except OSError as error:
        raise UserError(
            f"{folder}: {files.reason(error)}", fix=files.advice(error, "name another folder with run.root=")
        ) from None


def look(run: Run, settings: Config, dataset: DataSet | None, warn: Warn) -> tuple[Origin, dict[str, Any] | None]:
    """As `choose`, and changes nothing on the disk. `dataset` is None where its checksums are not known."""
    return _chosen(run, settings, dataset, warn, only_look=True)


def _chosen(
    run: Run, settings: Config, dataset: DataSet | None, warn: Warn, only_look: bool = False
) -> tuple[Origin, dict[str, Any] | None]:
    is_repeated = only_look and settings.checkpoint.resume == "never"  # the run is not yet set aside
    if not is_repeated and (content := _newest(run, warn, only_look)):
        if dataset is not None and content["data_sha256"] != dataset.fingerprint:
            raise UserError(
                f"{run.path}: was trained on other data (its files' SHA-256 were others)",
                fix="bring the old files back, or give another run.name",
            )
        return Origin(Start.RESUMED), content
    if (chosen := settings.checkpoint.resume) in ("auto", "never"):
        return Origin(Start.NEW), None
    try:
        content = archive.read(Path(chosen))
    except (Damaged, UserError) as error:
        raise UserError(f"checkpoint.resume={error}") from None
    code = model_file.code_sha256(config.model_path(settings.model))
    if content.get("model_sha256", code) != code:
        warn(f"checkpoint.resume={chosen}: is of another version of the model's file; its weights are taken")
    return Origin(Start.WEIGHTS, chosen), content


def _newest(run: Run, warn: Warn, only_look: bool) -> dict[str, Any] | None:
    damaged, folder = 0, run.path / layout.CHECKPOINTS
    for file in [*layout.newest_first(folder), *folder.glob(layout.BEST)]:
        try:
            return archive.read(file)
        except Damaged as error:
            damaged += 1
            if only_look:
                warn(f"DAMAGED: {error}; would be set aside for the one before")
                continue
            aside = file.with_name(f"{file.name}.damaged")
            os.replace(file, aside)
            warn(f"DAMAGED: {error}; set aside as {aside.name}, looking for the one before")
            run.event("damaged", file=file.name)
    if damaged:
        warn(f"DAMAGED: {folder} has no good checkpoint left: training starts anew")
    return None


def misfit(module: nn.Module, weights: Weights) -> str:
    """Which tensors have other shapes than the module's, or ''."""
    expected, given = (
        {name: tuple(value.shape) if isinstance(value, Tensor) else "no tensor" for name, value in state.items()}
        for state in (module.state_dict(), weights)
    )
    differing = sorted(name for name in expected | given if expected.get(name) != given.get(name))
    return ", ".join(f"{name} {given.get(name)}, expected {expected.get(name)}" for name in differing[:3])
