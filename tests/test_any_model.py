"""The promises hold for a model that nothing in src knows: one hash, through kills and on any number of ranks."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from src.drill.workloads import WORKLOADS
from src.run import jsonl, layout
from src.run.layout import read_status
from tests.helpers import strangers as strangers_room
from tests.helpers.ranks import Job, good_job, run_job, start_job

BITWISE = ("train.sync=bitwise", "train.epochs=2", "log.every=3")
EVERYTHING = (*BITWISE, "optim.name=adamw", "optim.lr=0.01", "optim.clip_norm=0.5", "optim.average=100")


def settings_of(folder: Path, name: str, *settings: str) -> list[str]:
    """307 samples in batches of 32: the last batch has 19."""
    if not (folder / "data").exists():
        strangers_room.write_samples("colours", folder / "data")
        strangers_room.model_of("residual", folder)
    base = [one for one in strangers_room.settings_of("residual", folder) if not one.startswith("run.name")]
    return [*base, "train.global_batch_size=32", f"run.name={name}", *settings]


def train(ranks: int, folder: Path, name: str, *settings: str) -> Job:
    return good_job(ranks, folder, *settings_of(folder, name, *settings))


def results(job: Job) -> dict[str, Any]:
    status = read_status(job.run)
    lines = list(jsonl.read(job.run / layout.METRICS))
    for line in lines:
        line.pop("samples_per_second", None)
        line.pop("seconds", None)
    content = torch.load(layout.newest_first(job.run / layout.CHECKPOINTS)[0], weights_only=True)
    transient = {name: tensor.tolist() for name, tensor in content["buffers"].items()}
    return {
        "weights": status["weights_sha256"],
        "average": status.get("average_sha256"),
        "lines": lines,
        "best": (content["progress"]["best"], content["progress"]["best_weights"]),
        "transient": transient,
    }


@pytest.mark.parametrize(
    "settings",
    [
        (*BITWISE, "optim.momentum=0.9", "optim.nesterov=true", "optim.schedule=wsd"),
        EVERYTHING,
        (*EVERYTHING, "train.precision=bfloat16", "train.exchange=backend", "optim.schedule=cosine"),
        (*EVERYTHING, "model.unused=true", "optim.weight_decay=0.01", "train.shards=6", "train.max_steps=13"),
    ],
    ids=["momentum", "adamw", "bfloat16", "unused"],
)
def test_one_hash(settings: tuple[str, ...], tmp_path: Path) -> None:
    alone = results(train(1, tmp_path, "1", *settings))
    assert alone["lines"][-1]["kind"] == "test"
    for ranks in (2, 3, 5):
        assert results(train(ranks, tmp_path, str(ranks), *settings)) == alone, ranks


@pytest.mark.slow(seconds=60)
@pytest.mark.parametrize("model", sorted(WORKLOADS))
def test_one_hash_of_each_model_of_the_tree(model: str, rendered: Path, tmp_path: Path) -> None:
    settings = (*WORKLOADS[model].settings, f"data.root={rendered}", "train.max_steps=23", "log.every=2")
    names = [one for one in settings if one.startswith("model.name")] or ["model.name=logistic"]
    jobs = [good_job(ranks, tmp_path, *settings, *names, f"run.name={ranks}") for ranks in (1, 2, 3, 5, 8)]
    first = results(jobs[0])
    for job in jobs[1:]:
        assert results(job) == first


def test_through_kills_and_resizes(tmp_path: Path) -> None:
    settings = (*EVERYTHING, "train.epochs=3", "checkpoint.every_steps=2")
    expected = results(train(2, tmp_path, "whole", *settings))
    for ranks, goal in ((3, 7), (1, 14), (8, 23)):
        job = start_job(ranks, tmp_path, *settings_of(tmp_path, "killed", *settings))
        path = tmp_path / "runs" / "killed"
        while job.runs() and max([line["step"] for line in jsonl.read(path / layout.METRICS)], default=0) < goal:
            time.sleep(0.01)
        os.kill(job.pids[0], signal.SIGKILL)
        job.wait()
    assert results(train(2, tmp_path, "killed", *settings)) == expected


def test_ddp_trains_and_resumes(tmp_path: Path) -> None:
    """One rank and two, with micro-batches: the buffers are the same on all ranks, and are no rank's alone."""
    settings = ("train.epochs=2", "train.micro_batch_size=5", "optim.average=100", "model.leave_out=0")
    job = train(2, tmp_path, "ddp", *settings)
    status = read_status(job.run)
    assert "norm     BatchNorm normalises each micro-batch alone, 5 samples" in job.output
    assert status["mirrored"] > 0.9
    content = torch.load(layout.newest_first(job.run / layout.CHECKPOINTS)[0], weights_only=True)
    assert content["model"]["seen"].sum() > 0
    assert content["average"]["samples"] == 2 * strangers_room.TRAIN
    assert train(3, tmp_path, "ddp", *settings, "train.epochs=3").codes == [0, 0, 0]


def test_layers_left_out_at_random_are_refused_in_ddp_with_the_way_out(tmp_path: Path) -> None:
    job = run_job(2, tmp_path, *settings_of(tmp_path, "x", "model.leave_out=0.05", "train.epochs=3"))
    assert 1 in job.codes
    assert "error: train.sync=ddp: a step did not use all parameters of the model; train.sync=bitwise" in job.output


def test_a_last_batch_too_small_for_batch_norm_is_refused_before_training(tmp_path: Path) -> None:
    write_linear(tmp_path)
    settings = settings_of(tmp_path, "x", f"model.name={tmp_path / 'linear.py'}", "train.global_batch_size=51")
    job = run_job(2, tmp_path, *settings)  # 307 = 6 * 51 + 1
    assert job.codes == [2, 2]
    said = "error: train.global_batch_size=51: in a step of the 307 training samples a rank has only 1, and the model"
    assert job.output.count(said) == 1
    assert not (tmp_path / "runs" / "x" / layout.METRICS).exists()


def test_ranks_without_samples_in_the_last_batch(tmp_path: Path) -> None:
    """307 = 2 * 152 + 3: three samples for five ranks. The gradient is that of the three."""
    settings = ("train.global_batch_size=152", "train.epochs=2")
    five = read_status(train(5, tmp_path, "5", *settings, "model.leave_out=0").run)
    assert five["step"] == 6
    assert five["top1"] > 0.2


def write_linear(folder: Path) -> None:
    """A model that needs two samples: BatchNorm over features."""
    (folder / "linear.py").write_text(
        """
from torch import nn
from torch.nn import functional

def build(settings, data):
    return nn.Sequential(nn.Flatten(), nn.Linear(432, 8), nn.BatchNorm1d(8), nn.Linear(8, data.classes))

def loss(module, images, labels):
    return functional.cross_entropy(module(images.float() / 255), labels, reduction="sum"), len(labels)
"""
    )


def test_a_loss_that_counts_no_item_is_warned_of_once(tmp_path: Path) -> None:
    write_linear(tmp_path)
    file = tmp_path / "linear.py"
    file.write_text(file.read_text().replace("len(labels)", "0"))
    job = train(1, tmp_path, "x", f"model.name={file}", "log.every=2", "train.max_steps=9")
    assert job.output.count("warning: no item counted in the last steps (loss returned 0 items)") == 1


def test_averages_are_measured_kept_and_said(tmp_path: Path) -> None:
    job = train(1, tmp_path, "x", "train.epochs=2", "optim.average=50", "optim.clip_norm=1")
    lines = list(jsonl.read(job.run / layout.METRICS))
    tested = [line for line in lines if line["kind"] == "test"]
    assert {"top1", "average_top1", "average_nll"} <= tested[-1].keys()
    assert all(line["grad_norm"] > 0 for line in lines if line["kind"] == "train")
    assert "(average: " in job.output
    status = json.loads((job.run / "status.json").read_text())
    assert status["best_weights"] in ("raw", "average")
    assert status["average_sha256"] != status["weights_sha256"]
