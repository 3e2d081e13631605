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
