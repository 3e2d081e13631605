"""What provenance.json says of the code, the hosts and the data."""

import platform
from pathlib import Path
from typing import Any

import pytest
import torch

from src import model_file
from src.data.dataset import DataSet
from src.data.splits import Split
from src.run import provenance
from tests.helpers.bare_models import SPEC


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ("", None),
        ("94afacd8", {"commit": "94afacd8", "dirty": False}),
        ("94afacd8-dirty", {"commit": "94afacd8", "dirty": True}),
    ],
)
def test_provenance_knows_the_commit_without_git(
    told: str, known: dict[str, Any] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("IMAGE_COMMIT", told)
    assert provenance._git() == known


def test_no_password_of_a_setting_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train", "data.mirrors=[http://user:hunter2@host/x]"])
    images, labels = torch.zeros(1, 28, 28, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
    data = DataSet(
        name="idx",
        train=Split(images, labels),
        test=Split(images, labels),
        spec=SPEC,
        checksums={"a": "1"},
        note="a note",
    )
    facts = provenance.provenance(["b", "a", "b"], ["cpu"] * 3, data, model_file.find("logistic"))
    assert facts["command"] == "python -m src.train data.mirrors=[http://***@host/x]"
    assert (facts["hosts"], facts["world_size"]) == (["a", "b"], 3)
    assert facts["data"] == {"name": "idx", "note": "a note", "sha256": {"a": "1"}}
    assert facts["model"]["file"] == "logistic.py"
    assert len(facts["model"]["sha256"]) == 64
    assert "hunter2" not in str(facts)


def test_a_processor_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise FileNotFoundError

    assert provenance.device_name(torch.device("cpu"))
    monkeypatch.setattr("builtins.open", missing)
    assert provenance.device_name(torch.device("cpu")) == platform.machine()
