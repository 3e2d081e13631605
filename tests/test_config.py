"""Settings from defaults, a file and the command line; each mistake is one line that names the fix."""

from pathlib import Path

import pytest

from src import config, schema
from src.errors import UserError
from tests.helpers.ranks import ROOT

MISTAKES = {
    "lr=1": "did you mean optim.lr?",
    "trian.epochs=2": "did you mean train.epochs?",
    "epochs=3": "did you mean train.epochs?",
    "nonsense=1": "--help lists all keys",
    "--lr=1": "write optim.lr=1",
    "--train.epochs": "write train.epochs=VALUE",
    "train.epochs": "write train.epochs=VALUE",
    "train.epochs=": "must be an integer",
    "train.epochs=0": "must be at least 1",
    "train.epochs=1e3": "must be an integer",
    "train.epochs=99999999999999999999": "must be below 2147483648",
    "train.epochs=true": "must be an integer",
    "train.global_batch_size=0": "must be at least 1",
    "optim.lr=-1": "must be above 0",
    "optim.lr=1e39": "must be below 3e+38",
    "optim.lr=nan": "must be a number",
    "optim.lr=fast": "must be a number",
    "optim.momentum=1": "must be below 1",
    "data.name=minst": "must be one of mnist",
    "data.mirrors=there": "must be a list such as [a,b]",
    "run.name=caf\udce9": "set LC_ALL=C.UTF-8, or write it in UTF-8",
    "config=": "names no file; write config=FILE.yaml",
    "config=nowhere.yaml": "cannot be read (No such file or directory)",
}


@pytest.mark.parametrize(("argument", "advice"), MISTAKES.items())
def test_mistakes_are_one_line_with_the_way_out(argument: str, advice: str) -> None:
    with pytest.raises(UserError) as error:
        config.parse([argument])
    assert argument.split("=")[0] in str(error.value)
    assert advice in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("train: [", "is no valid YAML"),
        ("- 1", "must hold sections"),
        ("train: {epoch: 3}", "did you mean train.epochs?"),
        ("train: {epochs: many}", "train.epochs=many: must be an integer"),
        ("train: 3", "train: 3: must hold keys, such as `epochs: 10`"),
        ("optim: {lr: 1}\noptim: {lr: 2}", "is no valid YAML"),
    ],
)
def test_mistakes_in_a_file_name_the_file(text: str, advice: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as error:
        config.parse([f"config={file}"])
    assert advice in str(error.value)
    assert str(file) in str(error.value)


@pytest.mark.parametrize("text", ["", "# a comment\n", "train:\n", "train: {}\ndata:\n  # name: digits\n"])
def test_an_empty_file_changes_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert config.parse([f"config={tmp_path / 'mine.yaml'}"]) == config.parse([])


def test_a_second_config_file_is_refused() -> None:
    with pytest.raises(UserError, match=r"config= is given 2 times \(a.yaml, b.yaml\): give one file"):
        config.parse(["config=a.yaml", "config=b.yaml"])


def test_the_command_line_wins_over_the_file_over_the_default(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("train: {epochs: 3, seed: 5}")
    settings = config.parse([f"config={tmp_path / 'mine.yaml'}", "train.epochs=4"])
    assert (settings.train.epochs, settings.train.seed, settings.train.global_batch_size) == (4, 5, 64)


def test_values_have_their_types() -> None:
    settings = config.parse(["optim.lr=1e-3", "run.name=123", "data.mirrors=[http://a/b,../c]", "log.seconds=3"])
    assert (settings.optim.lr, settings.run.name) == (0.001, "123")
    assert settings.data.mirrors == ["http://a/b", "../c"]
    assert isinstance(settings.log.seconds, float)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    settings = config.parse(["train.epochs=7", "data.mirrors=[x,y]", "run.name=it's", "optim.schedule=cosine"])
    (tmp_path / "config.yaml").write_text(config.as_yaml(settings))
    assert config.load(tmp_path / "config.yaml") == settings


def test_help_names_every_key_with_its_default() -> None:
    text = config.help_text([])
    for name in schema.KEYS:
        assert f"  {name} " in text
    assert "(a number; default 0.01)" in text


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda file: file.name)
def test_every_file_loads_and_begins_with_its_command(file: Path) -> None:
    config.parse([f"config={file}"])
    first, *rest = file.read_text().splitlines()
    assert first.startswith("# torchrun ")
    assert first.endswith(f"config=configs/{file.name}")
    assert any("Expect" in line for line in rest[:4])


def test_mnist_yaml_is_the_default() -> None:
    assert config.parse([f"config={ROOT / 'configs/mnist.yaml'}"]) == config.parse([])
