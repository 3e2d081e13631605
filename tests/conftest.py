"""Data sets and a trained run that many tests share: a small data set, the real MNIST where it is available."""

from pathlib import Path

import hypothesis
import pytest
import torch

from src import schema
from src.data import dataset as data
from src.data import digits
from src.errors import Unreachable, UserError
from tests.helpers import strangers as strangers_room
from tests.helpers.data_sets import mnist_mirrors, write_data_set
from tests.helpers.once import made_once
from tests.helpers.ranks import good_job
from tests.helpers.shims import shim as shim

torch.set_num_threads(1)
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")


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
    except (UserError, Unreachable) as error:
        pytest.skip(f"no MNIST: {error}")


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data.root of the embedded digits."""
    return made_once(tmp_path_factory, "rendered", lambda folder: digits.write(folder / "digits" / "raw"))


@pytest.fixture(scope="session")
def best(mnist: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with good weights: six epochs of softmax."""
    settings = ("model.loss=cross_entropy", "optim.lr=0.3", "optim.schedule=cosine", "train.epochs=6", "run.name=best")
    folder = made_once(tmp_path_factory, "best", lambda folder: good_job(1, folder, f"data.root={mnist}", *settings))
    return folder / "runs" / "best"


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each model that nothing in src knows, outside the tree: FOLDER/NAME/runs/NAME is its run.

    Each was trained for an epoch on two ranks, and for one more on three.
    """

    def make(folder: Path) -> None:
        for name in strangers_room.NAMES:
            for ranks in (2, 3):
                strangers_room.train(name, folder / name, f"train.epochs={ranks - 1}", ranks=ranks)

    return made_once(tmp_path_factory, "strangers", make)
