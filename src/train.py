"""The story of a training job: config, world, data, model, resume, loop, evaluate, report.

torchrun --nproc_per_node=4 -m src.train [config=FILE.yaml] [key=value ...]
"""

import gc

gc.disable()  # importing torch makes 2 million objects that live to the end: collecting them takes 0.4 s a rank

import sys
from dataclasses import dataclass

from src import interrupts

if __name__ == "__main__":
    interrupts.nothing_to_save_yet()

from src import config, console
from src.console import Console
from src.data import dataset as data
from src.data.dataset import DataSet
from src.data.loader import Batches
from src.evaluation import Metrics, evaluate
from src.gradients import build as gradient_room
from src.gradients.build import Gradients
from src.gradients.step import agreed
from src.interrupts import Interrupts
from src.models import logistic
from src.optimizer import Optimizer
from src.run import run as run
from src.run.checkpoint import Checkpoints, Training, weights_sha256
from src.run.progress import Progress, Speed
from src.run.run import Run
from src.schema import Config
from src.tracking.tracker import Tracker
from src.world import world as distributed
from src.world.world import World

gc.freeze()
gc.enable()


@dataclass
class Job:
    """Everything that the loop needs; each part knows by itself what rank 0 does and what all do."""

    settings: Config
    world: World
    run: Run
    console: Console
    dataset: DataSet
    batches: Batches
    gradients: Gradients
    training: Training
    checkpoints: Checkpoints
    tracker: Tracker
    interrupts: Interrupts
    speed: Speed


@distributed.record
def main() -> None:
    """Run the job of the command line."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(config.help_text())
        return
    with console.one_line_errors():
        settings = config.parse(sys.argv[1:])
        interrupts.nothing_to_save_yet()
        with distributed.join(settings.train) as world:
            job = prepare(settings, world)
            if job is not None:
                finish(job, train(job))


def prepare(settings: Config, world: World) -> Job | None:
    """Build every part and go back to where the run was; None if it was finished."""
    screen = Console(world, settings)
    dataset = data.load(settings.data, world, screen.say_anyway)
    settings = run.on(settings, dataset)
    record = Run(run.directory(settings), world, settings, screen.warn)
    record.open(dataset)

    module = logistic.build(settings.train.seed).to(world.device)
    shards, own = gradient_room.shards(settings.train, world)
    batches = Batches(dataset.train, settings.train, own, shards, world.device)
    optimizer = Optimizer(module, settings.optim, batches.steps_per_epoch * settings.train.epochs)
    training = Training(module, optimizer, Progress())
    checkpoints = Checkpoints(record, settings, world, dataset.fingerprint, screen.warn)
    source = checkpoints.resume(training)
    if source == "own" and finished(record, training.progress, settings):
        screen.say(f"{record.path}: is finished; train.epochs= prolongs it, checkpoint.resume=never repeats it")
        return None

    gradients = gradient_room.build(module, logistic.loss_function(settings.train.loss), settings.train, world)
    tracker = Tracker(record, settings, world, screen)
    told = record.begin(training.progress, source)
    tracker.begin(training.progress)
    screen.banner(str(record.path), dataset, gradients.name, tracker.name, told)
    stop = Interrupts(record.path / run.STOP, settings.train.max_minutes)
    return Job(
        settings,
        world,
        record,
        screen,
        dataset,
        batches,
        gradients,
        training,
        checkpoints,
        tracker,
        stop,
        Speed(),
    )


def finished(record: Run, progress: Progress, settings: Config) -> bool:
    """Whether there is nothing left to do for these settings."""
    return progress.epoch >= settings.train.epochs and record.was("finished")


def train(job: Job) -> str:
    """Train to the end, or until the ranks agree to stop; returns why they did, '' at the end."""
    progress, epochs = job.training.progress, job.settings.train.epochs
    job.console.start(progress, job.batches.steps_per_epoch)
    with job.tracker.failing(), job.run.failing():
        while progress.epoch < epochs:
            job.speed.start(progress)
            stopped = train_epoch(job)
            job.speed.stop(progress)
            if stopped:
                job.interrupts.leaving()
                return next(filter(None, job.world.gather(job.interrupts.wanted)))
            end_epoch(job)
    return ""


def train_epoch(job: Job) -> bool:
    """Make the steps that are left of the epoch; True if the ranks agreed to stop."""
    progress, batches, optimizer = job.training.progress, job.batches, job.training.optimizer
    for parts in batches.epoch(progress.epoch, progress.step_in_epoch):
        count = batches.count(progress.step_in_epoch)
        total = job.gradients.compute(parts, count, progress.step, job.interrupts.vote())
        optimizer.step(progress.step, total)
        progress.advance(total.loss, count)
        if progress.step_in_epoch % job.settings.log.every == 0:
            report_progress(job)
        if job.checkpoints.due(progress, epoch_ended=False):
            save(job)
        if agreed(total, progress.step):
            return True
    return False


def end_epoch(job: Job) -> None:
    """Evaluate on rank 0, while the others wait, and save."""
    progress = job.training.progress
    if progress.loss_count:
        report_progress(job)
    best = False
    if job.world.rank == 0:
        metrics = measure(job)
        job.tracker.evaluation(progress, metrics)
        job.console.evaluation(progress, metrics)
        best = progress.is_best(metrics.correct)
    progress.next_epoch()
    if best or job.checkpoints.due(progress, epoch_ended=True):
        save(job, best)


def measure(job: Job) -> Metrics:
    """The raw module on the whole test set."""
    return evaluate(job.training.module, job.dataset.test.to(job.world.device), job.settings.train.loss)


def report_progress(job: Job) -> None:
    """One line for the record, and perhaps one for the console."""
    progress, step = job.training.progress, job.training.progress.step
    count = progress.loss_count
    loss = progress.take_loss()
    job.speed.stop(progress)
    rate = job.speed.rate()
    job.tracker.train(progress, loss, job.training.optimizer.lr(step - 1), rate)
    job.console.line(progress, job.batches.steps_per_epoch, loss, count, rate)
    job.speed.start(progress)


def save(job: Job, best: bool = False) -> None:
    """A checkpoint, with the record that belongs to it safe before it."""
    job.training.progress.record = job.tracker.position()
    job.checkpoints.save(job.training, best)
    job.run.status("running", epoch=job.training.progress.epoch, step=job.training.progress.step)


def finish(job: Job, reason: str) -> None:
    """Save what is not saved yet, and say how it ended, or how it goes on."""
    progress = job.training.progress
    progress.record = job.tracker.position()
    with job.tracker.failing(), job.run.failing():
        job.checkpoints.save_last(job.training)
    if reason:
        job.run.event("stop", reason=reason, step=progress.step)
        job.run.status("preempted", epoch=progress.epoch, step=progress.step, reason=reason)
        job.console.interrupted(reason, progress)
        job.tracker.finish(job.training.module, job.dataset.test, None)
        if job.interrupts.left_alone(reason):
            raise SystemExit(interrupts.MEET_AGAIN)
    elif job.world.rank == 0:
        conclude(job)


def conclude(job: Job) -> None:
    """The result, for people and for machines."""
    progress, metrics, rate = job.training.progress, measure(job), job.speed.rate()
    facts: dict[str, object] = {"correct": metrics.correct, "count": metrics.count, "loss": metrics.loss}
    facts |= {"samples_per_second": round(rate, 1), "weights_sha256": weights_sha256(job.training.module)}
    facts |= {"waiting_seconds": round(job.gradients.waited, 3)}
    job.run.event("finish", step=progress.step, weights_sha256=facts["weights_sha256"])
    job.run.status("finished", epoch=progress.epoch, step=progress.step, **facts)
    write_report(job)
    job.tracker.finish(job.training.module, job.dataset.test.to(job.world.device), metrics)
    job.console.stop()
    job.console.summary(str(job.run.path), progress, metrics, rate)


def write_report(job: Job) -> None:
    """The run on one page, report.html. Whatever goes wrong with it is said, and costs the run nothing."""
    try:
        from src.report import page as report  # only here: the start does not wait for it

        step, module = job.training.progress.step, job.training.module
        report.at_the_end(job.run.path, job.settings, module, job.dataset.test, step)
    except Exception as error:
        path = job.run.path
        job.console.warn(f"{path}/report.html: not written ({error}); `python -m src.report {path}` writes it")


if __name__ == "__main__":
    console.run_and_leave(main)
