"""A model's file seen by the job: what it is asked for, and what is made of its results."""

import re
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from src.errors import ModelFailed, UserError
from src.models import closed_form
from src.models.built import mistake, of_one_size
from src.models.kinds import kind_of

Sums = dict[str, Tensor]
COUNT = "count"  # the number of samples, a divisor in METRICS
DIVISION = re.compile(r"(\w+) / (\w+)")
DIRECTIONS = {"max": True, "min": False}


class Data(Protocol):
    """What the data set tells a model of itself; `src.data.dataset.Spec` is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs."""

    @property
    def classes(self) -> int:
        """Labels are below it; 0 where the targets are no classes."""

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Of one target; () where it is a single number."""

    @property
    def target_dtype(self) -> torch.dtype:
        """Of the targets."""


@dataclass(frozen=True)
class Model:
    """A model's file that keeps the contract, with its settings."""

    path: Path
    module: ModuleType
    settings: Any

    @property
    def augments(self) -> bool:
        """Whether training inputs are changed at random."""
        return hasattr(self.module, "augment")

    def build(self, data: Data, seed: int) -> nn.Module:
        """A module whose initial weights depend on the seed alone.

        Raises UserError where `build` returns none, or refuses the data by a ValueError of its own.
        """
        torch.manual_seed(seed)
        with self.user_code(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element")  # it is said below, in one line
            try:
                built = self.module.build(self.settings, data)
            except ValueError as error:
                if not self._raised(error):
                    raise
                raise UserError(f"{self.path.name}: {error}") from None
        if found := mistake(built):
            raise self.broken("build", *found)
        if not data.classes and any(not is_lazy(one) and one.numel() == 0 for one in built.parameters()):
            raise UserError(
                f"{self.path.name}: has an output for each class, and the targets of this data are no classes",
                fix="name another model with model.name=, such as transformer for text",
            )
        return cast(nn.Module, built)

    def _raised(self, error: Exception) -> bool:
        """Whether the model's file raised the error by a `raise` of its own, and not something that it called."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        return last.filename == self.module.__file__ and str(last.line).startswith("raise ")

    def loss(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> tuple[Tensor, float | Tensor]:
        """(sum of the losses over the items, number of items)."""
        try:  # not `user_code`, which would cost two microseconds for each shard of each step
            return self.module.loss(module, inputs, targets)  # type: ignore[no-any-return]
        except Exception as error:
            self.raise_as_its_own(error)
            raise

    @property
    def has_gradients(self) -> bool:
        """Whether the file has its gradients in closed form."""
        return hasattr(self.module, "gradients")

    def gradients(
        self, module: nn.Module, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, float | Tensor, dict[str, Tensor]]:
        """(sum of the losses, number of items, gradient of the sum by the name of each trained parameter)."""
        try:  # as in `loss`
            return self.module.gradients(module, inputs, targets)  # type: ignore[no-any-return]
        except Exception as error:
            self.raise_as_its_own(error)
            raise

    def measure(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> Sums:
        """Sums over the samples by name; without a `measure` in the file the loss and its items."""
        with self.user_code():
            if hasattr(self.module, "measure"):
                return self.module.measure(module, inputs, targets)  # type: ignore[no-any-return]
            loss, items = self.module.loss(module, inputs, targets)
            return {"loss": loss, "items": torch.as_tensor(items)}

    def augment(self, inputs: Tensor, targets: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets changed by random numbers, one row of `draws` a sample."""
        with self.user_code():
            result = self.module.augment(inputs, targets, draws)
        return result if isinstance(result, tuple) else (result, targets)

    def parameter_groups(self, module: nn.Module, decay: bool) -> list[dict[str, Any]]:
        """Groups of parameters as torch.optim takes them; by default none decays that has
        less than two dimensions.
        """
        if hasattr(self.module, "parameter_groups"):
            with self.user_code():
                return list(self.module.parameter_groups(module, self.settings))
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not decay:
            return [{"params": trained}]
        groups: list[dict[str, Any]] = [
            {"params": [parameter for parameter in trained if parameter.dim() > 1]},
            {"params": [parameter for parameter in trained if parameter.dim() < 2], "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def probabilities(self, module: nn.Module, inputs: Tensor) -> Tensor:
        """(n, classes): how probable each class is."""
        with self.user_code():
            if hasattr(self.module, "probabilities"):
                return self.module.probabilities(module, inputs)  # type: ignore[no-any-return]
            result: Tensor = module(inputs).softmax(-1)
        return result

    def metrics(self, sums: list[str]) -> dict[str, tuple[str, str]]:
        """For each metric the sum and its divisor, the one that is shown first in front.

        `sums` are the names of the scalars that `measure` returned; one that METRICS does not name is divided by the
        samples. Raises UserError for a division by what is not measured.
        """
        given = getattr(self.module, "METRICS", {} if hasattr(self.module, "measure") else {"loss": "loss / items"})
        if not isinstance(given, dict):
            raise self.broken("METRICS", f"is {kind_of(given)}", 'a dict such as {"accuracy": "correct / count"}')
        divisions = {}
        for name, text in given.items():
            division = DIVISION.fullmatch(str(text))
            if not division or not {*division.groups()} <= {*sums, COUNT}:
                known = ", ".join([*sums, COUNT])
                raise self.broken("METRICS", f"has {name}: {text!r}", f"'SUM / DIVISOR', both of {known}")
            divisions[str(name)] = (division[1], division[2])
        named = {*divisions, *(part for division in divisions.values() for part in division)}
        divisions |= {name: (name, COUNT) for name in sums if name not in named}
        if not divisions:
            raise self.broken("measure", "returned no number", "at least one")
        return divisions

    def best(self, metrics: list[str]) -> tuple[str, bool]:
        """(the metric that decides which weights are the best, whether higher is better). Raises UserError."""
        default = "min loss" if "loss" in metrics else f"min {metrics[0]}"
        text = getattr(self.module, "BEST", default)
        direction, _, name = str(text).partition(" ")
        if direction not in DIRECTIONS or name not in metrics:
            raise self.broken("BEST", f"is {text!r}", f"'max' or 'min' and one of {', '.join(metrics)}")
        return name, DIRECTIONS[direction]

    @property
    def ends_early(self) -> bool:
        """Whether the file may end the training after an evaluation."""
        return hasattr(self.module, "enough")

    def is_enough(self, values: dict[str, float]) -> bool:
        """Whether the file's `enough` ends the training, after an evaluation that found these metrics."""
        with self.user_code():
            result = self.module.enough(dict(values))
        if not isinstance(result, bool):
            raise self.broken("enough", f"returned {kind_of(result)}", "True or False")
        return result

    def check(self, module: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        """Try `loss`, `measure` and `gradients` on a few samples.

        Raises UserError where a result is none that the job can use, or where a gradient is not autograd's.
        """
        training = module.training
        module.eval()
        try:
            with torch.no_grad(), of_one_size(module):
                self._check_loss(self.loss(module, inputs, targets))
                self._check_measure(self.measure(module, inputs, targets))
        finally:
            module.train(training)
        if self.has_gradients:
            with self.user_code():
                found = closed_form.mistake(self.loss, self.gradients, module, inputs, targets)
            if found:
                raise self.broken("gradients", *found)

    def _check_loss(self, result: object) -> None:
        if not isinstance(result, tuple) or len(result) != 2:
            raise self.broken("loss", f"returned {kind_of(result)}", "(sum over the items, number of items)")
        loss, items = result
        if not isinstance(loss, Tensor) or loss.dim() != 0 or not loss.is_floating_point():
            raise self.broken("loss", f"returned {kind_of(loss)} as the sum", "a float tensor without dimensions")
        if not isinstance(items, int | float) and not (isinstance(items, Tensor) and items.dim() == 0):
            raise self.broken("loss", f"returned {kind_of(items)} as the number of items", "a number")

    def _check_measure(self, sums: object) -> None:
        if not isinstance(sums, dict) or not sums or not all(isinstance(name, str) for name in sums):
            raise self.broken("measure", f"returned {kind_of(sums)}", "a dict of tensors by name")
        for name, value in sums.items():
            if not isinstance(value, Tensor | int | float):
                raise self.broken("measure", f"returned {kind_of(value)} as {name}", "a tensor or a number")
        if COUNT in sums:
            raise self.broken("measure", f"returned {COUNT}", "another name: the job counts the samples itself")
        scalars = [name for name, value in sums.items() if not isinstance(value, Tensor) or value.dim() == 0]
        self.best(list(self.metrics(scalars)))

    def broken(self, name: str, problem: str, expected: str) -> UserError:
        """The error for a name that breaks the contract."""
        return UserError(f"{self.path}: {name}: {problem}", fix=f"expected {expected} (docs/your-model.md)")

    @contextmanager
    def user_code(self) -> Iterator[None]:
        """Around a call of the model's file: an error becomes ModelFailed, whose traceback begins in the file."""
        try:
            yield
        except Exception as error:
            self.raise_as_its_own(error)
            raise

    def raise_as_its_own(self, error: Exception) -> None:
        """Raise ModelFailed for an error that came from the model's file; return for any other."""
        frames = traceback.extract_tb(error.__traceback__)
        files = [Path(frame.filename) for frame in frames]
        first = next((at for at, file in enumerate(files) if file == self.path), None)
        if first is None:
            return
        lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames[first:])]
        lines += traceback.format_exception_only(error)
        raise ModelFailed(f"{type(error).__name__}: {error}", "".join(lines)) from None
