"""The README tells the truth: its settings are the job's, its commands run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from src import schema
from tests.ranks import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
FILES = sorted(set(re.findall(r"(?<![\w/.])(?:src|configs|launch|docs|tests)/[\w./-]*\w", README)))


def row(name: str) -> str:
    """A setting's row in the README's table."""
    meaning = str(schema.KEYS[name].metadata["meaning"]).replace("|", "\\|")
    default = schema.value_of(schema.Config(), name)
    return f"| `{name}` | {'`' + str(default) + '`' if default not in ('', []) else ''} | {meaning} |"


@pytest.mark.parametrize("name", sorted(schema.KEYS))
def test_every_setting_is_in_the_table(name: str) -> None:
    assert row(name) in README.splitlines()


def test_the_table_holds_nothing_else() -> None:
    assert set(re.findall(r"^\| `(\w+\.\w+)` \|", README, re.MULTILINE)) == set(schema.KEYS)


def test_the_readme_is_short_enough_to_read() -> None:
    assert len(README.splitlines()) <= 250


@pytest.mark.parametrize("file", FILES)
def test_every_file_it_names_exists(file: str) -> None:
    assert (ROOT / file).exists()


@pytest.fixture(scope="session")
def run(mnist: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run to try the commands on that read one."""
    root = tmp_path_factory.mktemp("readme")
    call(f"python -m src.train run.root={root} run.name=x data.root={mnist} train.epochs=1 track.wandb=disabled")
    return root / "x"


def call(command: str) -> str:
    """Run a command as the README's reader would, with this interpreter's folder on PATH; returns what it printed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, env=variables, timeout=240)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.parametrize("command", sorted({command for command in COMMANDS if command.startswith("make ")}))
def test_its_make_targets_exist(command: str) -> None:
    call(command.replace("make", "make --dry-run", 1))


@pytest.mark.parametrize("command", sorted({command for command in COMMANDS if "-m src.train" in command}))
def test_its_training_commands_train(command: str, mnist: str, tmp_path: Path) -> None:
    small = f" train.epochs=1 run.root={tmp_path} data.root={mnist} track.wandb=disabled"
    assert " 1 epochs, 938 steps" in call(command + small)


def test_every_command_has_a_test() -> None:
    tried = ("make ", "source .venv/bin/activate", "python -m src.", "torchrun ")
    assert [command for command in COMMANDS if not command.startswith(tried)] == []
    assert all(shlex.split(command) for command in COMMANDS)


def test_make_train_trains(mnist: str, tmp_path: Path) -> None:
    if not (ROOT / ".venv" / ".synced-user").exists():
        pytest.skip("no .venv here: `make setup` makes it, and needs an index of packages")
    settings = f"train.epochs=1 run.root={tmp_path} data.root={mnist} track.wandb=disabled"
    printed = call(f'make train RANKS=2 ARGS="{settings}"')
    assert "world    2 ranks" in printed
    assert "result   743" in printed


def test_make_alone_prints_the_targets() -> None:
    printed = call("make")
    assert all(f"make {target} " in printed for target in ("setup", "train", "test", "check", "drill"))
