"""The number of parameters of the job's own model."""

from pathlib import Path

from src import config
from src.doctor.model_size import parameters


def test_it_is_the_model_of_the_settings_on_its_data(small: str, tmp_path: Path) -> None:
    assert parameters(config.parse(["data.name=idx", f"data.root={small}"])) == 7850
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "def build(settings, data):\n    return nn.Linear(data.shape[0], 3)\n"
        "def loss(module, inputs, targets):\n    return 0\n"
    )
    assert parameters(config.parse([f"model.name={file}", f"data.root={tmp_path}"])) == 28 * 3 + 3


def test_text_that_is_not_here_is_taken_for_blocks_of_bytes(tmp_path: Path) -> None:
    chosen = ["data.name=sums", f"data.root={tmp_path}", "model.name=transformer", "model.width=16", "model.layers=1"]
    expected = 256 * 16 + 3 * 2 * 16 + 4 * 16 * 16 + (16 + 1) * 64 + (64 + 1) * 16
    assert parameters(config.parse(chosen)) == expected
