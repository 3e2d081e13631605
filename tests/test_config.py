"""Settings from defaults, a file and the command line; each mistake is one line that names the fix."""

import os
import pwd
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from src import config, files, schema
from src.errors import UserError
from src.fingerprint import fingerprint
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
    "train.timeout_seconds=1e14": "must be below 1000000000",
    "train.timeout_seconds=1e-9": "must be at least 1",
    "track.timeout_seconds=1e14": "must be below 1000000000",
    "train.threads=2147483647": "must be below 4097",
    "train.shards=2147483647": "must be below 4097",
    "train.max_minutes=1e999": "must be a number",
    "optim.lr=fast": "must be a number",
    "optim.momentum=1": "must be below 1",
    "data.name=minst": "must be one of mnist",
    "data.mirrors=there": "must be a list such as [a,b]",
    "optim.betas=0.9": "must be a list of numbers such as [0.9,0.95]",
    "optim.betas=[0.9,a]": "must be a list of numbers such as [0.9,0.95]",
    "optim.betas=[0.9]": "must be 2 numbers",
    "optim.betas=[0.9,1]": "must be below 1",
    "optim.betas=[-1,0.9]": "must be at least 0",
    "optim.clip_norm=-1": "must be at least 0",
    "optim.nesterov=true": "needs optim.name=sgd and a momentum; give optim.momentum=0.9",
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
        ("run: {root: ~}", 'must be text; in YAML a bare ~ is nothing: write "~"'),
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optim.name=adamw", "optim.momentum=0.9"], "optim.momentum=0.9: adamw has none; use optim.betas="),
        (["train.sync=bitwise", "train.micro_batch_size=8"], "train.micro_batch_size=8: with train.sync=bitwise the"),
    ],
)
def test_settings_that_contradict_each_other(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        config.parse(arguments)
    assert said in str(error.value)


def test_a_list_of_numbers(tmp_path: Path) -> None:
    assert config.parse(["optim.betas=[0,0.5]"]).optim.betas == [0.0, 0.5]
    file = tmp_path / "x.yaml"
    file.write_text("optim: {name: adamw, betas: [0.8, 0.9]}")
    assert config.parse([f"config={file}"]).optim.betas == [0.8, 0.9]


PATHS = ("data.root", "run.root", "checkpoint.resume", "data.mirrors", "model.name")


def test_a_tilde_is_the_home_folder_in_every_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(ROOT / "src" / "models" / "logistic.py", tmp_path / "m.py")
    values = {"data.root": "~/d", "run.root": "~", "checkpoint.resume": "~/a.pt", "model.name": "~/m.py"}
    text = "".join(f"{name.replace('.', ': {', 1)}: '{value}'}}\n" for name, value in values.items())
    (tmp_path / "mine.yaml").write_text(
        text.replace("data: {root: '~/d'}", "data: {root: ~/d, mirrors: [~/x, 'http://a/~b']}")
    )
    from_file = config.parse(["config=~/mine.yaml"])
    typed = config.parse([f"{name}={value}" for name, value in values.items()] + ["data.mirrors=[~/x,http://a/~b]"])
    assert typed == from_file
    assert (typed.data.root, typed.run.root) == (f"{tmp_path}/d", str(tmp_path))
    assert (typed.checkpoint.resume, typed.model.name) == (f"{tmp_path}/a.pt", f"{tmp_path}/m.py")
    assert typed.data.mirrors == [f"{tmp_path}/x", "http://a/~b"]
    assert {name for name, field in schema.KEYS.items() if field.metadata.get("is_path")} == set(PATHS)


def test_a_tilde_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"run.root=~nobody-here/x: there is no user nobody-here; write"):
        config.parse(["run.root=~nobody-here/x"])
    monkeypatch.delenv("HOME", raising=False)
    assert config.parse(["run.root=~/x"]).run.root == str(Path(pwd.getpwuid(os.getuid()).pw_dir) / "x")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(UserError, match=r"HOME is not set, and this user has no home folder; .* or ./~/x"):
        config.parse(["run.root=~/x"])
    assert config.parse(["run.root=./~/x"]).run.root == "./~/x"


DOLLARS = (
    "${x}",
    "${",
    "$HOME",
    r"\${x}",
    r"\\${oc.env:HOME}",
    "${oc.env:HOME}",
    "${oc.env:",
    "a${b${c}",
    "$${a}",
    "${}",
)


@pytest.mark.parametrize("text", [*DOLLARS, "1e3", "yes", "null", "~", "# a", "caf\u00e9 \u4f60", "a: b", ""])
def test_text_is_text_and_reads_back(text: str, tmp_path: Path) -> None:
    settings = config.parse(
        [f"track.notes={text}", 'data.mirrors=["${a}", "b"]', f"model.name={ROOT}/src/models/logistic.py"]
    )
    assert (settings.track.notes, settings.data.mirrors) == (text, ["${a}", "b"])
    file = tmp_path / "config.yaml"
    files.write_text(file, config.as_yaml(settings))
    assert config.load(file) == settings
    assert OmegaConf.load(file).track.notes == text


def test_a_variable_of_the_environment_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EPOCHS", "7")
    monkeypatch.setenv("NOTES", "1e3 ${x}")
    monkeypatch.setenv("SECRET", "hunter2")
    file = tmp_path / "mine.yaml"
    file.write_text(
        "train: {epochs: '${oc.env:EPOCHS}', seed: '${oc.env:NOT_SET,5}'}\n"
        "track: {notes: '${oc.env:NOTES}', group: 'a ${b} ${oc.env:EPOCHS}', project: '\\${oc.env:EPOCHS}'}\n"
        "data: {mirrors: ['http://me:${oc.env:SECRET}@host/']}\n"
    )
    settings = config.parse([f"config={file}"])
    assert (settings.train.epochs, settings.train.seed, settings.track.notes) == (7, 5, "1e3 ${x}")
    assert (settings.track.group, settings.track.project) == ("a ${b} 7", "${oc.env:EPOCHS}")
    assert settings.data.mirrors == ["http://me:hunter2@host/"]
    assert "hunter2" not in config.as_yaml(settings)
    for value, advice in (
        (
            "${oc.env:NOT_SET}",
            "Environment variable 'NOT_SET' not found; write ${oc.env:NAME} or ${oc.env:NAME,DEFAULT}",
        ),
        ("${oc.env:EPOCHS", "write ${oc.env:NAME}"),
    ):
        file.write_text(f"track: {{notes: '{value}'}}")
        with pytest.raises(UserError) as error:
            config.parse([f"config={file}"])
        assert f"config={file}: track.notes: {value}: " in str(error.value)
        assert advice in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_another_machine(encoding: str, tmp_path: Path) -> None:
    """Windows ends its lines otherwise, and may begin a file with a mark."""
    file = tmp_path / "mine.yaml"
    file.write_bytes("track:\r\n  notes: caf\u00e9\r\ntrain:\r\n  epochs: 3\r\n".encode(encoding))
    settings = config.parse([f"config={file}"])
    assert (settings.track.notes, settings.train.epochs) == ("caf\u00e9", 3)
    file.write_bytes("track: {notes: caf\u00e9}".encode("latin-1"))
    with pytest.raises(UserError, match=r"is no valid YAML: 'utf-8' codec can't decode byte 0xe9"):
        config.parse([f"config={file}"])


@pytest.mark.parametrize(
    "argument",
    [
        "data.mirror=http://me:hunter2@host/",
        "data.mirrors=http://me:hunter2@host/",
        "--data.mirrors=[http://me:hunter2@host/]",
        "data.mirrors=http://host/?token=hunter2",
        "data.mirrors={http://me:hunter2@host/: 1}",
        "track.wandb=http://me:hun/ter2@host/",
        "http://me:hunter2@host/",
    ],
)
def test_a_mistake_shows_no_secret(argument: str) -> None:
    with pytest.raises(UserError) as error:
        config.parse([argument])
    assert "ter2" not in str(error.value)


def test_secrets_in_a_file_are_not_written_down(tmp_path: Path) -> None:
    settings = config.parse(
        ["data.mirrors=[http://u:p@h/x,https://h/?X-Amz-Signature=abc]", "track.notes=http://u:p@h/?a=b"]
    )
    assert config.as_dict(settings)["data"]["mirrors"] == ["http://***@h/x", "https://h/?***"]
    assert config.as_dict(settings)["track"]["notes"] == "http://***@h/?a=b"
    (tmp_path / "mine.yaml").write_text("data: {mirrors: 'http://u:hunter2@h/'}")
    with pytest.raises(UserError) as error:
        config.parse([f"config={tmp_path / 'mine.yaml'}"])
    assert "hunter2" not in str(error.value)


def test_a_mirror_is_kept_without_its_secrets_and_shapes_nothing() -> None:
    settings = config.parse(["checkpoint.mirror=s3://key:secret@bucket/x?token=secret"])
    assert config.as_dict(settings)["checkpoint"]["mirror"] == "s3://***@bucket/x?***"
    assert "secret" not in config.as_yaml(settings)
    assert fingerprint(settings) == fingerprint(config.parse([]))
