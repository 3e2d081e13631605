"""When the weights are measured, on which samples, and by which ranks."""

import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from src import schema
from src.data.dataset import DataSet
from src.data.splits import Split
from src.evaluation.measure import Interrupted, Part, combine, evaluate, measure_part
from src.evaluation.metrics import Metrics
from src.models import Model
from src.schema import TEST, VALIDATION
from src.world.world import World


class Evaluator:
    """Measures the weights, and their average where there is one, when it is due.

    `kind` says on which samples: those of data.validation, else the test set. Every method that measures is called
    by all ranks, and returns the same on all; only rank 0 has the tables.
    """

    def __init__(
        self,
        model: Model,
        dataset: DataSet,
        settings: schema.Evaluate,
        world: World,
        interrupted: Callable[[], bool],
    ) -> None:
        self._model, self._settings, self._world, self._interrupted = model, settings, world, interrupted
        self.kind = TEST if dataset.validation is None else VALIDATION
        self._test = dataset.test.to(world.device)
        self._split = self._test if dataset.validation is None else dataset.validation.to(world.device)

    def due_at_step(self, step: int) -> bool:
        """Whether evaluate.every_steps wants to measure after this step."""
        return self._settings.every_steps > 0 and step > 0 and step % self._settings.every_steps == 0

    def due_at_epoch(self, epoch: int) -> bool:
        """Whether evaluate.every_epochs wants to measure after this epoch, counted from 1."""
        return self._settings.every_epochs > 0 and epoch % self._settings.every_epochs == 0

    def measure(self, module: nn.Module, average: nn.Module | None) -> Metrics | None:
        """What decides which weights are the best; None if a rank was asked to stop meanwhile."""
        return self._both(module, average, self._split, self._interrupted)

    def test(self, module: nn.Module, average: nn.Module | None) -> Metrics:
        """The result on the test set, whoever asks to stop meanwhile."""
        metrics = self._both(module, average, self._test, lambda: False)
        assert metrics is not None
        return metrics

    def _both(
        self, module: nn.Module, average: nn.Module | None, split: Split, interrupted: Callable[[], bool]
    ) -> Metrics | None:
        measure = self._shared if self._settings.ranks == "all" else self._by_rank0
        raw = measure(module, split, interrupted)
        if raw is None or average is None:
            return raw
        averaged = measure(average, split, interrupted)
        return averaged and dataclasses.replace(raw, averaged=averaged)

    def _by_rank0(self, module: nn.Module, split: Split, interrupted: Callable[[], bool]) -> Metrics | None:
        own: list[Metrics] = []

        def decide() -> Metrics | None:
            try:
                own.append(evaluate(self._model, module, split, interrupted))
            except Interrupted:
                return None
            return own[0].without_tables()  # a table of 1,000 classes is a million numbers

        shared = self._world.rank0_decides(decide)
        return own[0] if own else shared

    def _shared(self, module: nn.Module, split: Split, interrupted: Callable[[], bool]) -> Metrics | None:
        world = self._world

        def decide() -> Part | None:
            torch.set_num_threads(threads)  # in this thread too, for the same bits
            try:
                return measure_part(self._model, module, split, interrupted, world.rank, world.size)
            except Interrupted:
                return None

        threads = torch.get_num_threads()
        parts = world.each_rank_decides(decide)
        whole = [part for part in parts if part is not None]
        return combine(self._model, whole, len(split)) if len(whole) == len(parts) else None
