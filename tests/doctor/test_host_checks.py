"""The doctor's checks of this host: software, GPUs, processors and shared memory."""

import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from src.doctor import host_checks
from src.gradients import shared_file
from tests.helpers.namespaces import doctor_in
from tests.helpers.plans import planned

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="GPUs here")


@pytest.fixture
def one_processor() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(before)])
    yield
    os.sched_setaffinity(0, before)


def test_the_versions_are_a_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    found = host_checks.versions(planned())
    assert found.colour == "green"
    assert f"torch {torch.__version__}, torchvision " in found.message
    assert ", gloo" in found.message
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: ["numpy", "torch==1.0.0"])
    found = host_checks.versions(planned())
    assert (found.colour, found.fix) == ("red", "make setup")
    assert found.message.endswith("is made for torch 1.0.0")


@NO_GPU
def test_gpus_that_are_wanted_or_unused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(host_checks, "DRIVER_GPUS", tmp_path)
    assert host_checks.gpus(planned()).colour == "green"
    assert host_checks.gpus(planned("train.device=cuda")).colour == "red"
    (tmp_path / "0000:01:00.0").mkdir()
    assert host_checks.gpus(planned()).message.startswith("1 installed, torch sees 0")
    assert host_checks.gpus(planned("train.device=cuda")).colour == "red"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert host_checks.gpus(planned()).fix == "unset it"
    assert host_checks.gpus(planned("train.device=cpu")).colour == "green"


@pytest.mark.usefixtures("one_processor")
def test_threads_against_processors() -> None:
    assert host_checks.cores(planned("train.threads=1")).message.startswith("1 rank(s) x 1 thread(s) on 1 CPU(s)")
    assert host_checks.cores(planned(ranks=2)).colour == "yellow"
    found = host_checks.cores(planned("train.threads=2", ranks=2))
    assert (found.colour, found.fix) == ("red", "train.threads=1, or 1 rank(s)")


def test_room_in_shared_memory() -> None:
    found = host_checks.memory(planned("train.device=cpu", ranks=2))
    assert found.colour == "green"
    assert host_checks.memory(planned("train.exchange=backend")).message == "not used for gradients"
    prepare = f"mount -t tmpfs -o size=1m tmpfs {shared_file.FOLDER}"
    (line,) = doctor_in("--mount", prepare, "train.device=cpu", "--ranks", "2", "--only", "memory")
    assert line["state"] == "red"
    assert "No space left on device" in line["message"]
    assert "--shm-size" in line["fix"]


def test_no_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_file, "FOLDER", tmp_path / "none")
    assert host_checks.memory(planned("train.device=cpu", ranks=2)).colour == "yellow"
    assert host_checks.memory(planned("train.device=cpu", "train.exchange=shared_memory", ranks=2)).colour == "red"


def test_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(host_checks, "CONTAINERS", {})
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert host_checks.surroundings(planned()).message.startswith("a plain host")
    monkeypatch.setattr(host_checks, "CONTAINERS", {str(tmp_path): "Podman"})
    assert host_checks.surroundings(planned()).message.startswith("Podman: ")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_END_TIME", "1800000000")
    found = host_checks.surroundings(planned()).message
    assert found.startswith("Slurm job 7: ")
    assert "save 30 s before its end at 2027-01-15" in found
