"""How far a training is, in one line of any width: the numbers first, a drawing in what is left."""

import os
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TextIO

from src.streams import is_stuck

PAUSE_SECONDS = 0.1  # between two drawings
DEFAULT_COLUMNS = 80  # of a terminal that does not say how wide it is
LEAST_DRAWING = 6
DRAWN = ("\u2588", "\u2591")  # a full and a light block
DRAWN_ASCII = ("#", "-")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Where a training is: `epoch` counts from 1, `loss` is a mean, `rate` samples a second, `left` seconds or None."""

    epoch: int
    epochs: int
    step_in_epoch: int
    steps_per_epoch: int
    loss: float
    rate: float
    left: float | None

    @property
    def done(self) -> float:
        """The share of all steps that is made, 0 to 1."""
        steps = self.steps_per_epoch * self.epochs
        return ((self.epoch - 1) * self.steps_per_epoch + self.step_in_epoch) / steps if steps else 0.0


def numbers(reading: Reading) -> str:
    """All numbers, with their names: a line of a log."""
    wide = len(str(reading.steps_per_epoch))
    return (
        f"{epoch(reading.epoch, reading.epochs)}  step {reading.step_in_epoch:{wide}}/{reading.steps_per_epoch}  "
        f"loss {reading.loss:.4f}  {reading.rate:,.0f} samples/s  {_left(reading)} left"
    )


def epoch(number: int, epochs: int) -> str:
    """`epoch  2/10`."""
    return f"epoch {number:{len(str(epochs))}}/{epochs}"


def line(reading: Reading, columns: int, drawn: tuple[str, str] = DRAWN_ASCII) -> str:
    """The numbers that fit, most important first (epoch, loss, speed), and a drawing if there is room; never wider."""
    text = next((text for text in _shorter(reading) if len(text) <= columns), "")
    return with_drawing(text, reading.done, columns, drawn)


def with_drawing(text: str, done: float, columns: int, drawn: tuple[str, str] = DRAWN_ASCII) -> str:
    """The text, and how much is done of 1 as a drawing if there is room."""
    room = columns - len(text) - 2
    if not text or room < LEAST_DRAWING:
        return text[: max(columns, 0)]
    full = round(room * min(done, 1.0))
    return f"{text}  {drawn[0] * full}{drawn[1] * (room - full)}"


def _shorter(reading: Reading) -> list[str]:
    """The numbers, in fewer and fewer letters."""
    where = f"epoch {reading.epoch}/{reading.epochs}"
    step = f"step {reading.step_in_epoch}/{reading.steps_per_epoch}"
    loss, rate = f"{reading.loss:.4f}", f"{reading.rate:,.0f}"
    short = f"{reading.epoch}/{reading.epochs}"
    return [
        numbers(reading),
        f"{where}  {step}  loss {loss}  {rate} samples/s  {_left(reading)}",
        f"{where}  {step}  loss {loss}  {rate}/s",
        f"{where}  loss {loss}  {rate} samples/s",
        f"{where}  loss {loss}  {rate}/s",
        f"{short} loss {loss} {rate}/s",
        f"{short} {loss} {rate}/s",
        f"{short} {loss}",
        short,
    ]


def _left(reading: Reading) -> str:
    return "?" if reading.left is None else str(timedelta(seconds=round(reading.left)))


def has_bar(stream: TextIO) -> bool:
    """Whether the stream is a terminal that can write over a line."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Bar:
    """A line of a terminal that is written over. Other lines are printed above it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown, self._time = "", 0.0
        self._drawn = DRAWN_ASCII
        try:
            "".join(DRAWN).encode(stream.encoding or "ascii")
            self._drawn = DRAWN
        except UnicodeEncodeError:
            pass

    def show(self, reading: Reading) -> None:
        """Draw it, unless it was drawn just now, nobody looks, or another job has the terminal."""
        if self._may_draw():
            self._shown = line(reading, self._columns() - 1, self._drawn)
            self._write(f"\r\x1b[K{self._shown}")

    def draw(self, text: str, done: float) -> None:
        """The same for any text, and how much is done of 1."""
        if self._may_draw():
            self._shown = with_drawing(text, done, self._columns() - 1, self._drawn)
            self._write(f"\r\x1b[K{self._shown}")

    def _may_draw(self) -> bool:
        now = time.monotonic()
        if now - self._time < PAUSE_SECONDS or is_stuck(self._stream) or self._in_background():
            return False
        self._time = now
        return True

    def print(self, text: str) -> None:
        """A line that stays, above the bar."""
        self._write(f"\r\x1b[K{text}\n{self._shown}")

    def clear(self) -> None:
        """Take the bar away."""
        if self._shown:
            self._shown = ""
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or DEFAULT_COLUMNS
        except OSError:
            return DEFAULT_COLUMNS

    def _in_background(self) -> bool:
        """Whether a shell has put this process into the background; not known of another session's terminal."""
        try:
            return os.tcgetpgrp(self._stream.fileno()) != os.getpgrp()
        except OSError:
            return False
