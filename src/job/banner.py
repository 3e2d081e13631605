"""What a job says when it begins: a text for each label."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from src import schema
from src.job.parts import Parts
from src.schema import VALIDATION
from src.world.world import World


def banner(parts: Parts, gradients: str, tracker: str, folder: str) -> dict[str, str]:
    """What is going to run, and where."""
    train, world, dataset = parts.settings.train, parts.world, parts.dataset
    ranks = f"{world.size} rank{'s' if world.size > 1 else ''}"
    test = len(dataset.test) if dataset.has_test else "no"
    held_out = "" if dataset.validation is None else f", {len(dataset.validation)} {VALIDATION}"
    rows = {
        "world": f"{ranks}, {world.device.type}, backend {world.backend}, {train.threads} thread(s) each",
        "sync": gradients,
        "data": f"{dataset.name}: {len(dataset.train)} training{held_out} and {test} test samples",
        "best": f"best.pt is chosen on the {f'{VALIDATION} samples' if held_out else 'test set (data.validation=0)'}",
        "batch": f"global {train.global_batch_size} = {ranks} x {train.global_batch_size / world.size:g}",
        "track": tracker,
        "run": folder,
    }
    if share := norm_share(parts.module, train, world):
        rows["norm"] = f"BatchNorm normalises {share}"
    return rows | ({"note": world.note} if world.note else {})


def norm_share(module: nn.Module, train: schema.Train, world: World) -> str:
    """Over which samples BatchNorm takes its statistics, where that is not the global batch; else ''."""
    if not any(isinstance(part, _BatchNorm) for part in module.modules()):
        return ""
    if train.sync == "bitwise":
        return f"each of {train.shards} shards alone, {train.global_batch_size / train.shards:g} samples"
    share = train.global_batch_size / world.size
    if 0 < train.micro_batch_size < share:
        return f"each micro-batch alone, {train.micro_batch_size} samples"
    return (
        f"each rank's share alone, {share:g} samples: other numbers of ranks train otherwise" if world.size > 1 else ""
    )
