"""The training job: torchrun --nproc_per_node=4 -m src.train [--dry-run] [config=FILE.yaml] [key=value ...]

    meet the other ranks; build data, model and optimizer; go back to the newest checkpoint
    for each epoch:
        for each global batch:
            result = gradients.forward_backward(this rank's micro-batches)   # summed over all ranks
            state.update(result)                                             # the same on all ranks
            report, save and evaluate where it is due
            stop if the ranks agree to
        save; evaluate; mark the best checkpoint; stop if it does not get better
    write the result

Nothing here imports torch until the settings are read: a mistake and a finished run are answered at once.
"""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else Ctrl-C prints which import it was in
if not __package__:  # `python src/train.py`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import config, console, environment, interrupts, leaving, limits, streams
from src.run import layout
from src.run.layout import ExitCode, StopReason
from src.schema import Config

if TYPE_CHECKING:
    from src.job import Job


def main() -> None:
    """Run the job of the command line."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        with console.one_line_errors():
            print(config.help_text(sys.argv[1:]))
        return
    streams.guard(lossy=True)
    with console.one_line_errors(of_ranks=True):
        arguments, is_dry = config.without_dry_run(sys.argv[1:])
        settings = config.parse(arguments)
        if not is_dry and nothing_left(settings):
            return
        interrupts.exit_on_signal()
        limits.raise_open_files()
        with importing_torch(), limits.loading("torch"):
            from src import job as job_room  # torch comes with it, which takes a second
        if is_dry:
            from src import dry_run

            with limits.naming_memory():
                return dry_run.show(settings)
        with limits.naming_memory(), job_room.join(settings) as job:
            if job is not None:
                finish(job, train(job))


def nothing_left(settings: Config) -> bool:
    """Whether the run is finished; rank 0 prints that it is.

    Ranks on several hosts ask together, once they have met: their file systems may not show the same yet. So does a
    run with a mirror, which may lack what this disk has.
    """
    path, ranks = layout.directory(settings), environment.ranks()
    if settings.checkpoint.resume == "never" or settings.checkpoint.mirror or ranks.size != ranks.local_size:
        return False
    if not layout.is_finished(path, settings):
        return False
    if ranks.rank == 0:
        print(layout.finished_line(path))
    return True


@contextmanager
def importing_torch() -> Iterator[None]:
    """Around importing torch, which makes two million objects that live to the end: collecting them takes 0.4 s.

    And keep torch from printing a C++ stack on each rank that loses another one.
    """
    gc.disable()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    yield
    gc.freeze()
    gc.enable()


def train(job: "Job") -> StopReason | None:
    """Train to the end, or until the ranks agree to stop; returns why they did, None at the end."""
    job.console.start(job.batches.steps_per_epoch, job.last_step)
    with job.failing():
        while not job.is_over():
            if train_epoch(job) or end_epoch(job):
                return job.stop_reason()
    return None


def train_epoch(job: "Job") -> bool:
    """Make the steps that are left of the epoch; True if the ranks agreed to stop."""
    progress = job.state.progress
    if job.evaluator.due_at_step(progress.step) and evaluate(job):  # saved before its evaluation, and ended there
        return True
    first, every = progress.step_in_epoch, job.settings.log.every
    last = min(first + max(0, job.last_step - progress.step), job.batches.steps_per_epoch)
    with job.speed.timing():
        for micro_batches in job.clock.loading(job.batches.epoch(progress.epoch, first, last)):
            samples = job.batches.count(progress.step_in_epoch)
            step = progress.step_in_epoch + 1
            note = (
                job.notes.own() if step % every == 0 or step == last else None
            )  # with it comes a line of metrics.jsonl
            result = job.gradients.forward_backward(micro_batches, progress.step, job.interrupts.vote(), note)
            job.state.update(result, samples)
            if result.notes is not None:
                with job.speed.paused():
                    report(job, job.notes.read(result.notes, progress))
            if job.checkpoints.due_at_step(progress) or result.should_save(progress.step):
                with job.speed.paused():
                    save(job)
            if result.should_stop(progress.step):
                return True
            if job.evaluator.due_at_step(progress.step):
                with job.speed.paused():
                    if evaluate(job):
                        return True
                if progress.ended:
                    return False
    return False


def report(job: "Job", seconds: list[list[float]] | None = None) -> None:
    """A line for metrics.jsonl, and perhaps one for the console. `seconds` are the ranks' (src.clock)."""
    progress, rate = job.state.progress, job.speed.rate()
    loss, items = progress.take_loss()
    if not items:
        job.warn_once("no item counted in the last steps (loss returned 0 items): nothing is trained by them")
    optimizer = job.state.optimizer
    job.tracker.train(progress, loss, optimizer.lr(progress.step - 1), rate, optimizer.grad_norm, seconds)
    job.console.training(progress, loss, items, rate)


def save(job: "Job") -> None:
    """A checkpoint, with the lines of metrics.jsonl that belong to it safe before it; it is written beside training."""
    progress = job.state.progress
    with job.clock.saving(), job.interrupts.patience():
        progress.metrics_bytes = job.tracker.position()
        job.checkpoints.save(job.state)


def end_epoch(job: "Job") -> bool:
    """Save, then evaluate: what fails in the evaluation has lost nothing. True if the ranks agreed to stop."""
    progress = job.state.progress
    if progress.has_loss:
        report(job)
    progress.metrics_bytes = job.tracker.position()
    if job.checkpoints.due_at_epoch(progress):
        save(job)
    if (job.evaluator.due_at_epoch(progress.epoch + 1) or job.is_last_step()) and evaluate(job):
        return True
    if progress.step_in_epoch == job.batches.steps_per_epoch:
        progress.next_epoch()
    return False


def evaluate(job: "Job") -> bool:
    """Measure the weights, once at a step; keep the best; see whether to go on. True if the ranks agreed to stop."""
    progress = job.state.progress
    if progress.evaluated_step == progress.step:
        return False
    with job.interrupts.patience():
        metrics = job.evaluate()
        if metrics is None:
            return True
        kind = job.evaluator.kind
        job.tracker.evaluation(kind, progress, metrics)
        job.console.evaluation(kind, progress, str(metrics))
        progress.evaluated_step = progress.step
        progress.metrics_bytes = job.tracker.position()
        is_best = progress.is_best(metrics.deciding, metrics.higher_is_better, metrics.best_weights)
        progress.ended = job.ended_early(metrics)
        if is_best:
            job.checkpoints.mark_best(job.state)
    return False


def finish(job: "Job", reason: StopReason | None) -> None:
    """Save what is not saved yet, and report the result, or why the job stopped and how it goes on."""
    from src.job import ending  # torch has come with the job

    progress = job.state.progress
    with job.failing(), job.interrupts.patience():
        progress.metrics_bytes = job.tracker.position()
        job.checkpoints.save_last(job.state)
    with job.interrupts.patience():
        if reason is None:
            ending.conclude(job)
        else:
            ending.stopped(job, reason)
        job.run.mirror.finish()
        if reason is None:
            return
    if job.interrupts.stopped_by_other_host(reason):
        raise SystemExit(ExitCode.TRY_AGAIN)


if __name__ == "__main__":
    leaving.run_and_leave(main)
