"""What a person sees: a live bar on a terminal, plain lines in a log, one line for an error."""

import errno
import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from src import bar
from src.bar import Bar, Reading
from src.environment import reports_mistakes
from src.errors import JobFailed, ModelFailed, OutputLost, UserError

RANK0_SECONDS = 10.0  # rank 0 may be that much later; torchrun ends this wait when rank 0 has left
LEFT = (errno.EPIPE, errno.EIO, errno.ECONNRESET)  # the reader has left (head, less), the terminal is gone
MODEL_SECONDS = 2.0  # ... and of an error in the model's file perhaps this rank alone knows


@contextmanager
def one_line_errors(of_ranks: bool = False) -> Iterator[None]:
    """Turn a user's mistake into one line (exit code 2), a foreseen failure into one too (exit code 1).

    `of_ranks`: all ranks make the same mistake, and one of them reports it. Other commands do, whatever RANK says.
    """
    try:
        yield
    except ModelFailed as error:
        _tell_torchrun(str(error))  # the traceback is printed here, once
        if of_ranks and not reports_mistakes():
            _let_rank0_print(MODEL_SECONDS)
        print(error.traceback, end="", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except (UserError, JobFailed) as error:
        silent = of_ranks and isinstance(error, UserError) and not reports_mistakes()
        if not silent:
            print(f"error: {error}", file=sys.stderr, flush=True)
        _tell_torchrun(str(error))
        if silent:
            _let_rank0_print(RANK0_SECONDS)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except OutputLost as lost:
        if lost.errno in LEFT:
            raise SystemExit(128 + signal.SIGPIPE) from None
        print(f"error: the output cannot be written ({lost.strerror})", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except Exception:
        _tell_torchrun(traceback.format_exc())
        raise


def _tell_torchrun(message: str) -> None:
    """Leave the message where torchrun looks for it: else its last lines are `error_file: <N/A>`."""
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        extra = {"py_callstack": message, "timestamp": str(int(time.time()))}
        with suppress(OSError), open(file, "w") as stream:  # an earlier torchrun's file is gone
            json.dump({"message": {"message": message, "extraInfo": extra}}, stream)


def _let_rank0_print(seconds: float) -> None:
    """All ranks make the same mistake: torchrun ends the others as soon as rank 0, which prints it, has left."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        time.sleep(seconds)


class Position(Protocol):
    """How far the training is; `src.run.progress.Progress` is one."""

    epoch: int
    step_in_epoch: int
    step: int


class Console:
    """Rank 0 prints; on the others every method but `print_any_rank` does nothing.

    `epochs`, `batch` (samples a step) and `seconds` (between lines of a log) are the settings'.
    """

    def __init__(self, rank0: bool, epochs: int, batch: int, seconds: float) -> None:
        self._rank0, self._epochs, self._batch, self._seconds = rank0, epochs, batch, seconds
        self._began = self._printed = time.monotonic()
        self._bar: Bar | None = None
        self._loss_sum, self._loss_items = 0.0, 0.0
        self._steps_per_epoch, self._last_step = 0, 0

    def print(self, text: str) -> None:
        """Print a line."""
        if not self._rank0:
            return
        if self._bar is not None:
            self._bar.print(text)
        else:
            print(text, flush=True)

    def print_any_rank(self, text: str) -> None:
        """Print a line from whichever rank calls: no other one knows it."""
        print(text, flush=True)

    def warn(self, text: str) -> None:
        """Print a line that must not be missed, on stderr."""
        if not self._rank0:
            return
        if self._bar is not None:
            self._bar.clear()
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def rows(self, rows: dict[str, str]) -> None:
        """Print a row for each label and its text."""
        for label, text in rows.items():
            self.print(f"{label:8} {text}")

    def start(self, steps_per_epoch: int, last_step: int) -> None:
        """Training begins, and ends with `last_step`: on a terminal, show the bar."""
        self._steps_per_epoch, self._last_step = steps_per_epoch, last_step
        self._epochs = -(-last_step // steps_per_epoch) if steps_per_epoch else self._epochs
        if self._rank0 and bar.has_bar(sys.stdout):
            self._bar = Bar(sys.stdout)

    def training(self, position: Position, loss: float, items: float, rate: float) -> None:
        """Show how far it is: `loss` is the mean over the `items` since the last call, `rate` samples per second."""
        if not self._rank0:
            return
        if self._bar is not None:
            self._bar.show(self._reading(position, loss, rate))
            return
        if items:
            self._loss_sum, self._loss_items = self._loss_sum + loss * items, self._loss_items + items
        if time.monotonic() - self._printed >= self._seconds:
            self._printed = time.monotonic()
            mean = self._loss_sum / self._loss_items if self._loss_items else math.nan
            self.print(bar.numbers(self._reading(position, mean, rate)))
            self._loss_sum, self._loss_items = 0.0, 0.0

    def _reading(self, position: Position, loss: float, rate: float) -> Reading:
        steps_left = self._last_step - position.step
        return Reading(
            epoch=position.epoch + 1,
            epochs=self._epochs,
            step_in_epoch=position.step_in_epoch,
            steps_per_epoch=self._steps_per_epoch,
            loss=loss,
            rate=rate,
            left=steps_left * self._batch / rate if rate else None,
        )

    def evaluation(self, kind: str, position: Position, result: str) -> None:
        """Show what was measured on the test or the validation samples (`kind`)."""
        epoch = position.epoch + (position.step_in_epoch > 0)
        self.print(f"{bar.epoch(max(1, epoch), self._epochs)}  {kind}  {result}")

    def stop(self) -> None:
        """Training is over: take the bar away."""
        if self._bar is not None:
            self._bar.clear()
            self._bar = None

    def interrupted(self, reason: str, position: Position) -> None:
        """Say why it stopped and how it goes on."""
        self.stop()
        where = f"epoch {min(position.epoch + 1, self._epochs)}, step {position.step}"
        self.rows({"stopped": f"{reason}: saved at {where}; run the same command to go on"})

    @property
    def seconds(self) -> float:
        """Since the job began."""
        return time.monotonic() - self._began
