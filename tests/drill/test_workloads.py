"""What the drill and `make scale` train: settings that the job takes."""

import pytest

from src import config, model_file
from src.drill.workloads import WORKLOADS
from src.errors import UserError


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_the_settings_are_valid(name: str) -> None:
    settings = config.parse(list(WORKLOADS[name].settings))
    assert (settings.model.name, settings.train.sync) == (name, "bitwise")


def test_every_model_of_the_tree_has_one() -> None:
    with pytest.raises(UserError) as error:
        model_file.find("none")
    assert error.value.fix == f"write one of {', '.join(sorted(WORKLOADS))}, or the path of a .py file"
