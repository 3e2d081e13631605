"""What is done about missing files of each data set."""

from pathlib import Path

import pytest
from torchvision import datasets

from src import schema
from src.data import emnist, provision
from src.errors import Unreachable, UserError
from tests.helpers.data_sets import NOWHERE


def test_what_the_job_renders_itself(tmp_path: Path) -> None:
    said: list[str] = []
    provision.provide(schema.Data(name="sums", root=str(tmp_path)), said.append)
    assert said == [f"rendering the embedded sums into {tmp_path}/sums"]
    assert (tmp_path / "sums" / "train.txt").exists()


def test_what_the_user_puts_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.name=idx: put your files into .*/IDX/raw: train-images"):
        provision.provide(schema.Data(name="idx", root=str(tmp_path)), print)
    with pytest.raises(Unreachable, match=r"text holds no train\.txt and no test\.txt"):
        provision.provide(schema.Data(name="text", root=str(tmp_path)), print)


def test_what_no_mirror_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.KMNIST, "mirrors", [NOWHERE])
    monkeypatch.setattr(emnist, "MIRRORS", (NOWHERE,))
    for name in ("kmnist", "emnist_letters"):
        settings = schema.Data(name=name, root=str(tmp_path), mirrors=[str(tmp_path)])
        with pytest.raises(Unreachable, match="no mirror answers"):
            provision.provide(settings, print)
        assert "data.mirrors=[...]" in provision.how_to(settings)
