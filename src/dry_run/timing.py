"""How long a job would take, from some of its steps and a part of an evaluation."""

import itertools
import math
import time
from collections.abc import Generator
from contextlib import suppress

import torch

from src.data.loader import MicroBatch, ShardedLoader
from src.dry_run.plan import Plan
from src.evaluation.measure import SAMPLES_AT_ONCE, Interrupted, evaluate
from src.gradients.graph import WARM_UP

WARM_STEPS = 3  # the first ones set things up
STEPS, SECONDS = 300, 1.5  # that are timed, at most


def time_steps(plan: Plan) -> tuple[int, float]:
    """Make some steps; (how many were timed, the seconds that the slowest rank took). Called by all ranks."""
    state, world, steps = plan.parts.state, plan.parts.world, _endless(plan.parts.batches)

    def make(count: int) -> float:
        began = time.perf_counter()
        for micro_batches, samples in itertools.islice(steps, count):
            result = plan.gradients.forward_backward(micro_batches, state.progress.step, 0.0)
            state.update(result, samples)
        if world.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - began

    make(WARM_STEPS - 1 + WARM_UP * plan.parts.settings.train.cuda_graph)  # a graph is recorded after its WARM_UP
    one = make(1)
    count = world.rank0_decides(lambda: max(1, min(STEPS, int(SECONDS / one))))
    seconds = max(world.all_gather(make(count)))
    steps.close()
    return count, seconds


def _endless(batches: ShardedLoader) -> Generator[tuple[list[MicroBatch], int]]:
    for epoch in itertools.count():
        for step, micro_batches in enumerate(batches.epoch(epoch)):
            yield micro_batches, batches.count(step)


def time_evaluation(plan: Plan) -> float:
    """Seconds that an evaluation takes, from as many samples as rank 0 measures in SECONDS. Called by all ranks."""
    parts = plan.parts
    split, times = plan.measured.to(parts.world.device), list[float]()

    def is_enough() -> bool:
        times.append(time.perf_counter())
        return times[-1] - times[0] > SECONDS

    def decide() -> float:
        with suppress(Interrupted):
            evaluate(parts.model, parts.module, split, is_enough)
            times.append(time.perf_counter())
        return (times[-1] - times[0]) / (len(times) - 1)

    chunk = parts.world.rank0_decides(decide)
    ranks = parts.world.size if parts.settings.evaluate.ranks == "all" else 1
    models = 1 if parts.state.average.module is None else 2
    return chunk * math.ceil(len(split) / SAMPLES_AT_ONCE / ranks) * models
