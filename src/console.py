"""What a person sees: a live bar on a terminal, plain lines in a log, one line for an error."""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

from src.data.dataset import DataSet
from src.errors import JobFailed, UserError
from src.evaluation import Metrics
from src.run.progress import Progress
from src.schema import Config
from src.world.world import World, is_first

FIRST_SECONDS = 10.0  # rank 0 may be that much later; torchrun ends this wait when rank 0 has left


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a user's mistake into one line (exit code 2), a foreseen failure into one too (exit code 1)."""
    try:
        yield
    except (UserError, JobFailed) as error:
        if is_first() or isinstance(error, JobFailed):
            print(f"error: {error}", file=sys.stderr, flush=True)
        _tell_torchrun(str(error))
        if isinstance(error, UserError) and not is_first():
            _let_the_first_speak()
        raise SystemExit(2 if isinstance(error, UserError) else 1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:  # whoever read the output (head, less) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter's last flush complains
        raise SystemExit(141) from None


def _tell_torchrun(message: str) -> None:
    """Leave the message where torchrun looks for it: else its last lines are `error_file: <N/A>`."""
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        extra = {"py_callstack": message, "timestamp": str(int(time.time()))}
        with open(file, "w") as stream:
            json.dump({"message": {"message": message, "extraInfo": extra}}, stream)


def _let_the_first_speak() -> None:
    """All ranks make the same mistake; torchrun ends rank 0, which alone prints it, as soon as one has left."""
    if "TORCHELASTIC_ERROR_FILE" in os.environ:
        time.sleep(FIRST_SECONDS)


def run_and_leave(main: Callable[[], None]) -> NoReturn:
    """Run `main` and end the process at once with its exit code.

    Taking torch apart would cost 0.5 s a rank, and abort now and then where a process group was left open.
    """
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Console:
    """Rank 0 prints; on the others every method does nothing."""

    def __init__(self, world: World, settings: Config) -> None:
        self._first, self._world, self._settings = world.rank == 0, world, settings
        self._began = time.monotonic()
        self._spoke = time.monotonic()
        self._bar: Any = None
        self._loss_sum, self._loss_count = 0.0, 0
        self._last_line = ""

    def say(self, text: str) -> None:
        """Print a line."""
        if not self._first:
            return
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)

    def say_anyway(self, text: str) -> None:
        """Print a line from whichever rank asks: it alone knows."""
        print(text, flush=True)

    def warn(self, text: str) -> None:
        """Print a line that must not be missed, on stderr."""
        if self._first:
            print(f"warning: {text}", file=sys.stderr, flush=True)

    def banner(self, path: str, data: DataSet, gradients: str, track: str, resumed: str) -> None:
        """Say what is going to run, and where."""
        world, train = self._world, self._settings.train
        sizes = f"{train.global_batch_size / world.size:g}"
        ranks = f"{world.size} rank{'s' if world.size > 1 else ''}"
        self._last_line = data.headline
        self.say(self._last_line)
        self.say(f"world    {ranks}, {world.device.type}, backend {world.backend}, {train.threads} thread(s) each")
        self.say(f"sync     {gradients}")
        self.say(f"data     {data.name}: {len(data.train)} training and {len(data.test)} test images")
        self.say(f"batch    global {train.global_batch_size} = {ranks} x {sizes}")
        self.say(f"track    {track}")
        self.say(f"run      {path}{resumed}")
        if world.note:
            self.say(f"note     {world.note}")

    def start(self, progress: Progress, steps_per_epoch: int) -> None:
        """Training begins: on a terminal, show the bar."""
        if self._first and sys.stdout.isatty():
            from tqdm import tqdm

            total = steps_per_epoch * self._settings.train.epochs
            self._bar = tqdm(total=total, initial=progress.step, unit="step", dynamic_ncols=True, file=sys.stdout)

    def line(self, progress: Progress, steps_per_epoch: int, loss: float, count: int, rate: float) -> None:
        """Show how far it is: `loss` is the mean over the `count` samples since the last call."""
        if not self._first:
            return
        self._loss_sum, self._loss_count = self._loss_sum + loss * count, self._loss_count + count
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {loss:.4f}, {rate:,.0f} samples/s", refresh=False)
            self._bar.update(progress.step - self._bar.n)
        elif time.monotonic() - self._spoke >= self._settings.log.seconds:
            self._spoke = time.monotonic()
            epochs = self._settings.train.epochs
            steps_left = steps_per_epoch * epochs - progress.step
            left = timedelta(seconds=round(steps_left * self._settings.train.global_batch_size / rate)) if rate else "?"
            width = len(str(steps_per_epoch))
            self.say(
                f"epoch {progress.epoch + 1:{len(str(epochs))}}/{epochs}  "
                f"step {progress.step_in_epoch:{width}}/{steps_per_epoch}  "
                f"loss {self._loss_sum / self._loss_count:.4f}  {rate:,.0f} samples/s  {left} left"
            )
            self._loss_sum, self._loss_count = 0.0, 0

    def evaluation(self, progress: Progress, metrics: Metrics) -> None:
        """Show an epoch's result on the test set."""
        epochs = self._settings.train.epochs
        self.say(f"epoch {progress.epoch + 1:{len(str(epochs))}}/{epochs}  test  {metrics}  loss {metrics.loss:.4f}")

    def stop(self) -> None:
        """Training is over: take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def interrupted(self, reason: str, progress: Progress) -> None:
        """Say why it stopped and how it goes on."""
        self.stop()
        self.say(f"stopped  {reason}: saved at epoch {progress.epoch + 1}, step {progress.step}; run the same command")
        self.say(self._last_line)

    def summary(self, path: str, progress: Progress, metrics: Metrics, rate: float) -> None:
        """Say how it ended, where everything is, and what to do with it."""
        seconds = time.monotonic() - self._began
        checkpoint = f"checkpoints/step-{progress.step:08d}.pt"
        self.say(f"result   {metrics}, loss {metrics.loss:.4f}, {progress.epoch} epochs, {progress.step} steps")
        self.say(f"speed    {rate:,.0f} samples/s in training, {seconds:.1f} s in all")
        self.say(f"saved    {path}/{checkpoint}, {path}/metrics.jsonl, {path}/report.html")
        self.say(f"next     python -m src.predict {path} image.png; python -m src.report {path}")
        self.say(self._last_line)
