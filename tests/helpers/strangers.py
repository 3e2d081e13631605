"""Three models that nothing in src knows, copied out of the tree, with data of their kinds, and short runs of them."""

import shutil
from pathlib import Path

import torch

from src.data import idx
from tests.helpers.data_sets import write_idx
from tests.helpers.ranks import Job, good_job

MODELS = Path(__file__).parent / "models"
NAMES = ("colours", "tokens", "outputs")
TRAIN, TEST = 307, 101


def samples(name: str, count: int, random: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(inputs, targets) that the model of that name can learn."""
    if name == "colours":
        labels = torch.randint(0, 4, (count,), generator=random)
        means = torch.tensor([[200, 30, 30], [30, 200, 30], [30, 30, 200], [200, 200, 30]])[labels]
        noise = torch.randint(-30, 30, (count, 3, 12, 12), generator=random)
        labels[::10] = (labels[::10] + 1) % 4  # so that there is something wrong to display
        return (means[:, :, None, None] + noise).clamp(0, 255).byte(), labels.byte()
    if name == "tokens":
        text = torch.randint(97, 105, (count, 1), generator=random) + torch.arange(9)
        return text[:, :-1].byte(), text[:, 1:].byte()
    inputs = torch.randn(count, 3, generator=random)
    return inputs, torch.stack([inputs.sum(1), inputs[:, 0] - inputs[:, 1]], 1)


def write_samples(name: str, root: Path) -> None:
    """The four files of data.name=idx below data.root."""
    random = torch.Generator().manual_seed(0)
    for files, count in ((idx.TRAIN, TRAIN), (idx.TEST, TEST)):
        for file, values in zip(files, samples(name, count, random), strict=True):
            write_idx(root / "IDX" / "raw" / file, values)


def model_of(name: str, folder: Path) -> Path:
    """The model's file, copied to where a user has it."""
    (folder / "models").mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(MODELS / f"{name}.py", folder / "models" / f"{name}.py"))


def settings_of(name: str, folder: Path) -> list[str]:
    """The settings of a run of the model in `folder`."""
    return [
        f"model.name={folder / 'models' / f'{name}.py'}",
        "data.name=idx",
        f"data.root={folder / 'data'}",
        f"run.name={name}",
        "train.global_batch_size=16",
        "optim.lr=0.1",
        "log.every=5",
    ]


def train(name: str, folder: Path, *settings: str, ranks: int = 2) -> Job:
    """Train the model in forked ranks; the run is `folder`/runs/`name`."""
    model_of(name, folder)
    if not (folder / "data").exists():
        write_samples(name, folder / "data")
    return good_job(ranks, folder, *settings_of(name, folder), *settings)
