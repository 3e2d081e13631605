"""A run's trained model, read back: the best checkpoint, else the newest that is whole."""

from pathlib import Path

import pytest
import torch

from src import config
from src.data import idx
from src.errors import UserError
from src.run import archive, trained
from tests.helpers.bare_models import SPEC, logistic
from tests.helpers.data_sets import write_data_set


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with settings and no weights yet."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text(config.as_yaml(config.parse(["train.seed=3", "model.name=logistic"])))
    (tmp_path / "status.json").write_text('{"state": "finished"}')
    return tmp_path


def save(run: Path, name: str, bias: float) -> None:
    """A checkpoint that its bias tells from the others."""
    model = logistic().build(SPEC, 3).state_dict()
    archive.write(run / "checkpoints" / name, {"format": 1, "model": model | {"linear.bias": torch.full((10,), bias)}})


def bias(found: trained.Trained) -> float:
    return float(found.module.state_dict()["linear.bias"][0])


def test_the_best_checkpoint_or_the_newest(run: Path) -> None:
    for name, value in (("step-00000010.pt", 1.0), ("step-00000020.pt", 2.0), ("best.pt", 9.0)):
        save(run, name, value)
    found = trained.load(run)
    assert (bias(found), found.checkpoint.name) == (9.0, "best.pt")
    assert (found.settings.train.seed, found.status) == (3, {"state": "finished"})
    assert not found.module.training
    newest = trained.load(run, best=False)
    assert (bias(newest), newest.checkpoint.name) == (2.0, "step-00000020.pt")


def test_a_damaged_checkpoint_is_passed_over(run: Path) -> None:
    save(run, "step-00000010.pt", 1.0)
    save(run, "best.pt", 9.0)
    file = run / "checkpoints" / "best.pt"
    file.write_bytes(file.read_bytes()[:-1])
    assert bias(trained.load(run)) == 1.0
    assert file.exists(), "a command that only reads sets nothing aside"


def test_settings_may_be_overridden(run: Path) -> None:
    save(run, "best.pt", 9.0)
    assert trained.load(run, ["data.name=digits"]).settings.data.name == "digits"


def test_what_cannot_be_read_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no weights yet \(no checkpoint there\)"):
        trained.load(run)
    (run / "checkpoints" / "best.pt").write_bytes(b"rubbish")
    with pytest.raises(UserError, match=r"has no weights yet \(.*best\.pt"):
        trained.load(run)
    (run / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"is no run \(no config\.yaml there\)"):
        trained.load(run)


def test_the_test_files_alone_are_enough(run: Path, tmp_path: Path) -> None:
    save(run, "best.pt", 9.0)
    raw = tmp_path / "other" / "IDX" / "raw"
    write_data_set(raw, 30, 20)
    for name in idx.TRAIN:
        (raw / name).unlink()
    found = trained.test_of(trained.load(run, ["data.name=idx", f"data.root={tmp_path / 'other'}"]))
    assert (found.name, len(found.test), list(found.checksums)) == ("idx", 20, list(idx.TEST))
