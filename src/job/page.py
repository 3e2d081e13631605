"""The run on one page, report.html, at each end of a job: finished, stopped, failed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from src.data.dataset import DataSet
from src.models import Model
from src.run.layout import State
from src.schema import Config


class Page:
    """Rank 0 writes it; on the others every method does nothing. What goes wrong is a warning, and costs nothing."""

    def __init__(
        self,
        path: Path,
        settings: Config,
        model: Model,
        module: nn.Module,
        dataset: DataSet,
        rank0: bool,
        warn: Callable[[str], None],
    ) -> None:
        self._path, self._settings, self._rank0, self._warn = path, settings, rank0, warn
        self._model, self._module, self._dataset = model, module, dataset

    def write(self, state: State) -> bool:
        """The page of a run in this state; whether it is written."""
        if not self._rank0:
            return False
        try:
            self._write(state)
        except Exception as error:
            path = self._path
            self._warn(f"{path}/report.html: not written ({error}); `python -m src.report {path}` writes it")
            return False
        return True

    @contextmanager
    def failing(self) -> Iterator[None]:
        """An error leaves the page of the failed run; a signal that ends the job at once does not wait for it."""
        try:
            yield
        except Exception:
            self.write(State.FAILED)
            raise

    def _write(self, state: State) -> None:
        from src.report import page  # only here: the start does not wait for it

        if state is State.FAILED:
            page.of_failed(self._path, self._settings)
            return
        stopped = state is State.PREEMPTED
        page.at_the_end(self._path, self._settings, self._model, self._module, self._dataset, stopped)
