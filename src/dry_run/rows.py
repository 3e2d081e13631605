"""What a job would do, a row of text for each question."""

import itertools
import math
import shutil
import sys
from datetime import timedelta
from typing import Any

import torch

from src import resources
from src.console import Console
from src.data.dataset import DataSet
from src.dry_run.plan import Plan, build, existing
from src.dry_run.timing import time_evaluation, time_steps
from src.gradients.build import local_shards
from src.job.banner import banner
from src.job.parts import Parts
from src.schema import Config
from src.world import world as worlds
from src.world.world import hosts

Rows = dict[str, str]


def show(settings: Config) -> None:
    """Print what a job with these settings would do. Called by all ranks; raises UserError on all."""
    sys.dont_write_bytecode = True
    train = settings.train
    with worlds.join(train) as world:
        console = Console(world.rank == 0, train.epochs, train.global_batch_size, settings.log.seconds)
        plan = build(settings, world, console)
        if plan.parts.dataset.note:
            console.print(plan.parts.dataset.headline)
        console.rows(rows(plan))


def rows(plan: Plan) -> Rows:
    """A text for each label. Called by all ranks: they make the steps."""
    parts = plan.parts
    left = 0 if plan.begins.startswith("is finished") else max(0, parts.last_step - parts.state.progress.step)
    taken, seconds = time_steps(plan) if left else (0, 0.0)
    tracker = f"metrics.jsonl, W&B {parts.settings.track.wandb}"
    said = banner(parts, plan.gradients.name, tracker, f"{plan.path} ({plan.begins})")
    mapped = f"{size(_mapped_bytes(parts.dataset))} {'' if plan.lacking else 'mapped'}".strip()
    said["world"] += f", on {_counted(len({*hosts(parts.world)}), 'host')}"
    said["data"] += f"; {mapped}" + (f"; {plan.lacking}: tried on noise" if plan.lacking else "")
    return {
        "dry run": "nothing is written",
        **said,
        "cut": _cut(parts),
        "steps": _steps(parts),
        "rate": _rate(parts.settings),
        **_saves(plan, left),
        "memory": _memory(parts),
        **_time(plan, left, taken, seconds),
    }


def due(first: int, last: int, *strides: int) -> int:
    """How many steps after `first`, to `last`, are a multiple of one of the strides that are not 0; `last` is one."""
    if last <= first:
        return 0
    return len({last, *itertools.chain(*(range(first - first % n + n, last + 1, n) for n in strides if n))})


def _cut(parts: Parts) -> str:
    """How the global batch is cut among the ranks, and in them."""
    train = parts.settings.train
    shards, local = local_shards(train, parts.world)
    share = train.global_batch_size / shards
    if train.sync == "bitwise":
        return f"{shards} shards x {share:g} samples, {len(local)} of them on rank 0, one after the other"
    pieces = math.ceil(share / train.micro_batch_size) if train.micro_batch_size else 1
    micro = f" in {pieces} micro-batches of {train.micro_batch_size} at most" if pieces > 1 else " at once"
    return f"a rank's {share:g} samples{micro}"


def _steps(parts: Parts) -> str:
    per_epoch = parts.batches.steps_per_epoch
    short = parts.batches.count(per_epoch - 1)
    epochs = f"{parts.last_step / per_epoch:.4g} epochs"
    text = f"{per_epoch} an epoch, the last with {short} samples; {parts.last_step} in all ({epochs})"
    return text + (f", or fewer: train.patience={patience}" if (patience := parts.settings.train.patience) else "")


def _rate(settings: Config) -> str:
    optim = settings.optim
    decay = f" in the last {optim.decay_share:.0%} of the steps" if optim.schedule == "wsd" else ""
    warmup = f", after {optim.warmup_steps} steps of warm-up" if optim.warmup_steps else ""
    return f"{optim.name}, learning rate {optim.lr:g}, {optim.schedule}{decay}{warmup}"


def _saves(plan: Plan, left: int) -> Rows:
    """How many checkpoints, of how many bytes, and whether the disk has room for those that are kept."""
    parts = plan.parts
    chosen, last = parts.settings.checkpoint, parts.last_step
    strides = chosen.every_epochs * parts.batches.steps_per_epoch, chosen.every_steps
    saves, each = due(last - left, last, *strides), plan.checkpoints.size(parts.state)
    clock = f", and one every {chosen.every_minutes:g} minutes" if chosen.every_minutes else ""
    cost = min(filter(None, (*strides, last)))
    kept, free = (min(chosen.keep, saves) + 1) * each, shutil.disk_usage(existing(plan.path)).free
    room = ", NOT ENOUGH ROOM" if kept + each > free else ""
    return {
        "saves": f"{_counted(saves, 'checkpoint')} of {size(each)}{clock}; a kill costs up to {_counted(cost, 'step')}",
        "disk": f"the newest {chosen.keep} and best.pt are kept: {size(kept)} at most, {size(free)} free{room}",
    }


def _memory(parts: Parts) -> str:
    """What a rank holds. Called by all ranks."""
    parameters, state = list(parts.module.parameters()), parts.state
    held: dict[str, list[torch.Tensor]] = {
        "weights": [*parameters, *parts.module.buffers()],
        "gradients": [parameter for parameter in parameters if parameter.requires_grad],
        "optimizer": _tensors(state.optimizer.torch.state_dict()),
        "average": _tensors(state.average.state_dict()),
    }
    texts = [f"{name} {size(sum(tensor.nbytes for tensor in tensors))}" for name, tensors in held.items()]
    texts.append(f"resident now {size(max(parts.world.all_gather(resources.resident_bytes())))}")
    if parts.world.device.type == "cuda":
        texts.append(f"{size(torch.cuda.max_memory_allocated())} at most on its GPU")
    return f"a rank: {', '.join(texts)}; {size(resources.memory_bytes())} free on this host"


def _tensors(value: Any) -> list[torch.Tensor]:
    """The tensors in dicts and lists."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return _tensors(list(value.values()))
    return [tensor for item in value for tensor in _tensors(item)] if isinstance(value, list | tuple) else []


def _time(plan: Plan, left: int, taken: int, seconds: float) -> Rows:
    """How long the rest takes. Called by all ranks."""
    if not left:
        return {"time": "no step is left"}
    parts = plan.parts
    settings, last = parts.settings, parts.last_step
    each, chosen = time_evaluation(plan), settings.evaluate
    measures = due(last - left, last, chosen.every_epochs * parts.batches.steps_per_epoch, chosen.every_steps)
    rate = taken * settings.train.global_batch_size / seconds
    train, whole = left * seconds / taken, left * seconds / taken + measures * each
    compiled = "; torch.compile is not tried" if settings.train.compile else ""
    evaluations = f"{_counted(measures, 'evaluation')} of {len(plan.measured)} samples, {each:.2g} s each"
    return {
        "speed": f"{rate:,.0f} samples/s in {taken} steps that were made in memory{compiled}",
        "time": f"{_clock(train)} for {left} steps, and {evaluations}: {_clock(whole)} in all",
    }


def _mapped_bytes(dataset: DataSet) -> int:
    columns = {
        id(column): column for split in (dataset.train, dataset.test) for column in (split.inputs, split.targets)
    }
    return sum(math.prod(column.shape) * column.dtype.itemsize for column in columns.values())


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count} bytes"
        count /= 1000
    return f"{count:,.3g} TB"
