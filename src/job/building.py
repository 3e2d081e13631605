"""The parts of a job, built in order: first what reads, then the run's folder, then what begins to write."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from src import files
from src.clock import Clock, Slow
from src.console import Console
from src.data import dataset as datasets
from src.evaluation.evaluator import Evaluator
from src.gradients.build import shards_of
from src.interrupts import Interrupts
from src.job.banner import banner
from src.job.job import Job
from src.job.notes import Notes
from src.job.page import Page
from src.job.parts import Parts, build, chosen
from src.replicas import Replicas
from src.run import layout
from src.run.checkpoint import Checkpoints
from src.run.mirror import Mirror
from src.run.progress import Speed
from src.run.requests import Requests
from src.run.run import Origin, Run, Start
from src.run.saving import Saving
from src.schema import Config
from src.tracking.tracker import Tracker
from src.world import world as worlds
from src.world.world import World


@contextmanager
def join(settings: Config) -> Iterator[Job | None]:
    """Meet the other ranks and build every part; None if the run is finished. Raises UserError on all ranks."""
    with worlds.join(settings.train) as world:
        yield prepare(settings, world)


def prepare(settings: Config, world: World) -> Job | None:
    """Build every part, and go back to where the run was; None if it is finished."""
    console = Console(world.rank == 0, settings.train.epochs, settings.train.global_batch_size, settings.log.seconds)
    loaded = datasets.load(settings.data, world, console.print_any_rank)
    settings, dataset = chosen(settings, loaded)
    path, warn, is_rank0 = layout.directory(settings), console.warn, world.rank == 0
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str((path / layout.COMPILED).absolute()))
    parts = build(settings, dataset, world)

    run = Run(path, world, settings, warn, Mirror(path, settings, is_rank0, console.print, warn))
    requests, saving = Requests(path / layout.SAVE, settings.checkpoint.every_minutes, is_rank0), Saving()
    interrupts = Interrupts(path / layout.STOP, settings.train.max_minutes, requests, lambda: saving.in_flight)
    run.open(dataset, lambda: interrupts.reason is not None)

    tracker = Tracker(run, settings, world, warn)
    replicas = Replicas(world, parts.module, parts.state.average.module, warn)
    checkpoints = Checkpoints(run, settings, world, dataset, warn, requests, saving, tracker.flush, replicas.check_now)
    origin = checkpoints.resume(parts.state)
    if origin.start is Start.RESUMED and run.was_finished(parts.state.progress):
        run.mirror.catch_up()
        console.print(layout.finished_line(path))
        return None
    job = _job(parts, console, run, interrupts, tracker, replicas, checkpoints)
    _begin(job, parts, origin)
    return job


def _job(
    parts: Parts,
    console: Console,
    run: Run,
    interrupts: Interrupts,
    tracker: Tracker,
    replicas: Replicas,
    checkpoints: Checkpoints,
) -> Job:
    """The job, from where its run was; nothing is written yet."""
    settings, world, dataset, state, warn = parts.settings, parts.world, parts.dataset, parts.state, console.warn
    parts.compile()
    gradients, speed = parts.gradients(), Speed(state.progress)
    clock = Clock(speed.seconds, lambda: gradients.waited)
    slow = Slow([len(shards) for shards in shards_of(settings.train, world.size)])
    return Job(
        settings=settings,
        world=world,
        run=run,
        model=parts.model,
        console=console,
        dataset=dataset,
        batches=parts.batches,
        gradients=gradients,
        state=state,
        checkpoints=checkpoints,
        evaluator=Evaluator(parts.model, dataset, settings.evaluate, world, lambda: interrupts.reason is not None),
        tracker=tracker,
        page=Page(run.path, settings, parts.model, parts.module, dataset, world.rank == 0, warn),
        interrupts=interrupts,
        speed=speed,
        clock=clock,
        notes=Notes(world, replicas, clock, slow, checkpoints.last_saved, warn),
        last_step=parts.last_step,
        warn_once=files.once(warn),
    )


def _begin(job: Job, parts: Parts, origin: Origin) -> None:
    """Write down and say what begins. Called by all ranks; raises UserError on all."""
    progress, run = job.state.progress, job.run
    began = run.begin(progress, origin, job.batches.steps_per_epoch, job.last_step)
    job.tracker.begin(progress)
    job.console.print(job.dataset.headline)
    job.console.rows(banner(parts, job.gradients.name, job.tracker.name, f"{run.path}{began}"))
