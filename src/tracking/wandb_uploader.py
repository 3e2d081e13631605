"""The upload of metrics.jsonl to Weights & Biases, beside the training and never waited for.

A thread of rank 0 reads metrics.jsonl and sends the lines that W&B does not have yet. So a killed, requeued,
resized or offline run goes on under its id without a line lost or doubled: each line has a number (`line`), and
W&B is asked for the last one it has.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src import clock
from src.run import jsonl
from src.schema import Track
from src.tracking import account

LOOK_SECONDS = 2.0  # between looks at metrics.jsonl
START_SECONDS = 2.0  # training waits so long for W&B to start: beside it, the start would take longer
INIT_SECONDS = 15.0  # W&B's own limit is 90
KINDS = {"train": 0, "validation": 1, "test": 2, "final": 3}  # their order at one step
CONTEXT = ("epoch", "samples_seen")
LINE, BEFORE = "line", "record"  # W&B's key of a line's number, and what older runs called it
SUFFIX = {"train": {"lr": "lr", "samples_per_second": "samples_per_second"}}
Pictures = Callable[[Any], dict[str, Any]]


class UploadFailed(RuntimeError):
    """W&B did not take the lines; metrics.jsonl is whole without it."""


def number(line: dict[str, Any]) -> int:
    """The number of a line of metrics.jsonl: larger for each line that is written after it."""
    return len(KINDS) * int(line["step"]) + KINDS[line["kind"]]


def as_metrics(line: dict[str, Any]) -> dict[str, Any]:
    """A line of metrics.jsonl under W&B's names: train/loss, test/loss, lr, ..., all numbers.

    Of the ranks' seconds it gets the median and the largest: a chart for each rank would be a thousand charts.
    """
    kind = line["kind"]
    shared = {LINE: number(line), "global_step": line["step"], **{name: line[name] for name in CONTEXT}}
    numbers = {name: value for name, value in line.items() if isinstance(value, (int, float)) and name not in shared}
    plain = SUFFIX.get(kind, {})
    named = {plain.get(name, f"{kind}/{name}"): value for name, value in numbers.items() if name != "step"}
    return shared | named | clock.scalars(line.get(clock.SECONDS, {}))


class WandbUploader(threading.Thread):
    """Sends the metrics.jsonl of the run at `path` as it grows. Whatever goes wrong is one warning, no exception."""

    def __init__(self, path: Path, settings: Track, config: dict[str, Any], warn: Callable[[str], None]) -> None:
        super().__init__(name="wandb", daemon=True)
        self._path, self._settings, self._config, self._warn = path, settings, config, warn
        self._wake, self._opened, self._closing = threading.Event(), threading.Event(), False
        self._summary: dict[str, Any] = {}
        self._pictures: Pictures | None = None
        self._exit_code = 0
        self._sent, self._read = -1, 0
        self._too_late = False
        self.only_online = False
        self.failed, self.url, self.lines_sent = "", "", 0

    def run(self) -> None:
        """The thread: open, send what is new now and then, close."""
        try:
            self.send()
        except BaseException as error:
            self._opened.set()
            self.failed = account.one_line(error)
            if self.only_online or self._too_late:
                return
            self._warn(f"W&B: {self.failed}; training goes on, {push_hint(self._path)}")

    def begin(self) -> None:
        """Start the thread; returns when W&B has started, or after START_SECONDS."""
        self.start()
        self._opened.wait(min(START_SECONDS, self._settings.timeout_seconds))

    def send(self) -> None:
        """Send until `end` is called. Raises whatever W&B raises."""
        run = self._open()
        self._opened.set()
        while not self._closing:
            self._send_lines(run)
            self._wake.wait(LOOK_SECONDS)
        self._send_lines(run)
        self._conclude(run)
        run.finish(exit_code=self._exit_code)

    def end(self, summary: dict[str, Any], pictures: Pictures | None, exit_code: int = 0) -> None:
        """Finish with this summary; `pictures` makes images and tables with W&B's package."""
        self._summary, self._pictures, self._exit_code = summary, pictures, exit_code
        self._closing = True
        self._wake.set()

    def finish(self) -> None:
        """Wait for the upload, but not longer than track.timeout_seconds."""
        self.join(self._settings.timeout_seconds)
        if self.is_alive():
            self._too_late = True
            limit = f"track.timeout_seconds={self._settings.timeout_seconds:g}"
            self._warn(f"W&B: not done within {limit}; {push_hint(self._path)}")

    def _open(self) -> Any:
        account.prepare_environment()
        try:
            import wandb  # noqa: TID251
        except ImportError:
            raise UploadFailed("the package wandb is not installed (pip install wandb)") from None
        account.run_id(self._path, self._warn)
        if self.only_online or account.mode(self._settings) == "online":
            try:
                if not account.has_key():  # else W&B would ask for one, on a terminal
                    raise UploadFailed("no key is set up (`wandb login`, or WANDB_API_KEY)")
                run = self._init(wandb, "online")
                self._sent, self.url = _last_line(run.summary), str(run.url)
                return run
            except Exception as error:
                if self.only_online:
                    raise
                self._warn(f"W&B: {account.one_line(error)}; tracking offline, {push_hint(self._path)}")
                wandb.teardown()
        self._sent = _last_offline(self._path / "wandb")
        return self._init(wandb, "offline")

    def _init(self, wandb: Any, way: str) -> Any:
        run = wandb.init(
            mode=way,
            id=account.run_id(self._path),
            resume="allow",
            dir=str(self._path),
            name=None if os.environ.get("WANDB_NAME") else self._path.name,
            config=self._config,
            allow_val_change=True,
            settings=wandb.Settings(
                silent=True,
                quiet=True,
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_meta=True,  # it holds the bare command line; provenance says the same without secrets
                init_timeout=min(INIT_SECONDS, self._settings.timeout_seconds / 2),
                finish_timeout=self._settings.timeout_seconds * 0.8,
                finish_timeout_raises=True,
                x_transaction_log_flush_interval=1,
            ),
            **account.where(self._settings),
        )
        run.define_metric("global_step", hidden=True)
        run.define_metric(LINE, hidden=True)
        run.define_metric("*", step_metric="global_step")
        return run

    def _send_lines(self, run: Any) -> None:
        for line in jsonl.read(self._path / "metrics.jsonl", self._read):
            self._read += 1
            if number(line) > self._sent:
                run.log(as_metrics(line))
                self._sent = number(line)
                self.lines_sent += 1

    def _conclude(self, run: Any) -> None:
        """The summary; for a finished run its files, and once its pictures."""
        run.summary.update(self._summary)
        if self._summary.get("state") != "finished":
            return
        import wandb  # noqa: TID251

        # Each time, also where the last line is there already: W&B knows a file's content and takes it once.
        for kind, file in (("model", "checkpoints/best.pt"), ("report", "report.html")):
            if (self._path / file).exists():
                artifact = wandb.Artifact(f"{account.run_id(self._path)}-{kind}", type=kind, metadata=self._summary)
                artifact.add_file(str(self._path / file))
                run.log_artifact(artifact, aliases=["latest", "best"] if kind == "model" else ["latest"])
        last = {"kind": "final", "step": self._summary["step"]}
        if number(last) > self._sent:
            pictures = self._pictures(wandb) if self._pictures else {}
            run.log({LINE: number(last), "global_step": last["step"], **pictures})


def push_hint(path: Path) -> str:
    """How to send what W&B does not have."""
    return f"`python -m src.track push {path}` sends it"


def _last_line(summary: Any) -> int:
    """The number of the last line that W&B has, -1 if it has none."""
    return int(summary.get(LINE, summary.get(BEFORE, -1)))


def _last_offline(folder: Path) -> int:
    """The number of the last line in the pieces that earlier attempts left here, -1 if there is none."""
    last = -1
    for piece in folder.glob("*run-*/run-*.wandb"):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(piece)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        try:
            last = max(last, _last_line(json.loads(done.stdout)["summary"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return last
