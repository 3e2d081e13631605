"""Data sets for the tests: a small one made here, and the real MNIST where it can be had."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src import config, schema
from src.data import dataset as data
from src.data import download
from src.doctor.findings import Plan
from tests.helpers.once import made_once
from tests.helpers.ranks import ROOT, good_job

torch.set_num_threads(1)


def write_idx(file: Path, values: torch.Tensor) -> None:
    """Write a tensor of bytes as an IDX file."""
    header = bytes((0, 0, 8, values.dim())) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header + values.to(torch.uint8).contiguous().numpy().tobytes())


def write_data_set(raw: Path, train: int, test: int, seed: int = 0) -> None:
    """Random pictures, each class with a mean of its own: learnable, and made in milliseconds."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randint(0, 256, (10, 28, 28), generator=torch.Generator().manual_seed(1))
    for names, count in ((data.TRAIN, train), (data.TEST, test)):
        labels = torch.randint(0, 10, (count,), generator=generator)
        noise = torch.randint(-60, 60, (count, 28, 28), generator=generator)
        write_idx(raw / names[0], (means[labels] + noise).clamp(0, 255))
        write_idx(raw / names[1], labels)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """data.root of a data set of a prime number of samples (data.name=idx)."""
    root = made_once(tmp_path_factory, "small", lambda folder: write_data_set(folder / "IDX" / "raw", 1009, 200))
    return str(root)


@pytest.fixture(scope="session")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> str:
    """data.root of the real MNIST: from MNIST_MIRROR, ../shared/mnist or torchvision's mirrors."""

    def fetch(folder: Path) -> None:
        data.prepare(schema.Data(root=str(folder), mirrors=mnist_mirrors(), fallback="none"), print)

    try:
        return str(made_once(tmp_path_factory, "mnist", fetch))
    except (config.UserError, download.Unreachable) as error:
        pytest.skip(f"no MNIST: {error}")


def mnist_mirrors() -> list[str]:
    """Where the tests may find the packed files."""
    named = os.environ.get("MNIST_MIRROR")
    return [named] if named else [str(ROOT.parent / "shared" / "mnist")]


@pytest.fixture(scope="session")
def best(mnist: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with good weights: six epochs of softmax."""
    settings = ("train.loss=cross_entropy", "optim.lr=0.3", "optim.schedule=cosine", "train.epochs=6", "run.name=best")
    folder = made_once(tmp_path_factory, "best", lambda folder: good_job(1, folder, f"data.root={mnist}", *settings))
    return folder / "runs" / "best"


def command(*arguments: str, stdin: bytes = b"", stdout: int = subprocess.PIPE) -> "subprocess.CompletedProcess[bytes]":
    """`python -m` in the checkout."""
    call = [sys.executable, "-m", *arguments]
    return subprocess.run(call, cwd=ROOT, input=stdin, stdout=stdout, stderr=subprocess.PIPE, timeout=300)


def planned(*arguments: str, ranks: int = 1, nodes: tuple[str, ...] = (), seconds: float = 300) -> Plan:
    """What the doctor is asked about."""
    return Plan(config.parse(list(arguments)), list(arguments), ranks, list(nodes), seconds)


def in_namespaces(namespaces: str, prepare: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m` in namespaces of its own (unshare's options), after a shell command there."""
    unshare = ["unshare", *namespaces.split(), "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no namespaces here (unshare)")
    command = f"{prepare} && exec {shlex.join([sys.executable, '-m', *arguments])}"
    return subprocess.run([*unshare, "sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=300)


def doctor_in(namespaces: str, prepare: str, *arguments: str) -> list[dict[str, str]]:
    """The doctor's findings in namespaces."""
    done = in_namespaces(namespaces, prepare, "src.doctor", "--json", "--seconds=300", *arguments)
    assert done.returncode in (0, 1), done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
