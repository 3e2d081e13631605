"""How a job ends: the result of a finished run, or why it stopped and how it goes on."""

from src import gallery
from src.evaluation.metrics import Metrics
from src.job.job import Job
from src.models import compiling
from src.run import layout
from src.run.layout import Ended, State, StopReason
from src.run.state import weights_sha256
from src.schema import TEST, VALIDATION
from src.tracking.pictures import pictures


def conclude(job: Job) -> None:
    """The result of a finished run, for people and for machines. Called by all ranks."""
    progress, rate, metrics = job.state.progress, job.speed.rate(), _result(job)
    facts = _facts(job, metrics, rate)
    job.run.event("finish", step=progress.step, weights_sha256=facts["weights_sha256"])
    job.run.status(State.FINISHED, epoch=progress.epoch, step=progress.step, **facts)
    has_page = job.page.write(State.FINISHED)
    test = job.dataset.test.to(job.world.device)
    job.tracker.finish(pictures(job.model, job.state.module, job.dataset.spec, test, metrics))
    job.console.stop()
    job.console.rows(_rows(job, metrics, rate, has_page))
    if job.dataset.note:  # said again at the end: other data was trained on than asked for
        job.console.print(job.dataset.headline)


def stopped(job: Job, reason: StopReason) -> None:
    """Say why the run stopped and how it goes on, for people and for machines. It has saved."""
    job.run.preempted(reason, job.state.progress)
    job.console.interrupted(reason, job.state.progress)
    job.page.write(State.PREEMPTED)
    job.tracker.finish(None)


def _result(job: Job) -> Metrics:
    """What a finished run has reached on the test set: with data.validation the weights of best.pt."""
    state, evaluator = job.state, job.evaluator
    with compiling.uncompiled(state.module):
        if evaluator.kind != VALIDATION:
            return job.metrics or evaluator.test(state.module, state.average.module)
        with job.checkpoints.best(state):
            metrics = evaluator.test(state.module, state.average.module)
    if job.dataset.has_test:
        job.tracker.evaluation(TEST, state.progress, metrics)
    kind = TEST if job.dataset.has_test else VALIDATION
    job.console.evaluation(kind, state.progress, f"{metrics}  (best.pt, step {state.progress.best_step})")
    return metrics


def _facts(job: Job, metrics: Metrics, rate: float) -> dict[str, object]:
    """The result for status.json."""
    average, progress = job.state.average.module, job.state.progress
    facts: dict[str, object] = {**metrics.as_dict(), "samples_per_second": round(rate, 1)}
    facts |= _early_facts(job)
    facts |= {"weights_sha256": weights_sha256(job.state.module)}
    if average is not None:
        facts |= {"average_sha256": weights_sha256(average), "best_weights": progress.best_weights}
    return facts | {"waiting_seconds": round(job.gradients.waited, 3)}


def _rows(job: Job, metrics: Metrics, rate: float, has_page: bool) -> dict[str, str]:
    """The result for people: a text for each label."""
    progress, path = job.state.progress, job.run.path
    steps = f"{progress.epoch} epochs, {progress.step} steps"
    saved = [layout.checkpoint(path, progress.step), path / layout.METRICS, *[path / layout.REPORT] * has_page]
    return {
        "result": f"{', '.join(metrics.texts())}, {steps}{_early(job)}",
        "speed": f"{rate:,.0f} samples/s in training, {job.console.seconds:.1f} s in all",
        "saved": ", ".join(map(str, saved)),
        "next": "; ".join(gallery.next_commands(path, job.model, job.state.module, job.dataset.spec)),
    }


def _early_facts(job: Job) -> dict[str, object]:
    """For status.json: why the training ended before its last step, nothing where it did not."""
    ended = job.state.progress.ended
    facts: dict[str, object] = {"ended": ended, "reason": _early(job).removeprefix("; ")} if ended else {}
    return facts | ({"patience": job.settings.train.patience} if ended == Ended.PATIENCE else {})


def _early(job: Job) -> str:
    progress, patience = job.state.progress, job.settings.train.patience
    if progress.ended == Ended.PATIENCE:
        return f"; ended early: best at step {progress.best_step}, no better one for train.patience={patience}"
    return f"; ended early by {job.model.path.name}" if progress.ended else ""
