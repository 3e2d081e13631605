"""The README is right: its settings, its commands and its links into the source."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from src import config, schema
from src.fingerprint import fingerprint
from tests.helpers import picture
from tests.helpers.once import made_once
from tests.helpers.pages import CHROMIUM
from tests.helpers.picture_folders import draw
from tests.helpers.ranks import ROOT

README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
RUN = f"runs/mnist-{fingerprint(config.parse([]))}"
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
(SHOWN,) = re.findall(r"```\n(training on mnist\n.*?)```", README, re.DOTALL)
FILES = sorted(set(re.findall(r"(?<![\w/.])(?:src|configs|launch|docs|tests)/[\w./-]*\w", README)))


def row(name: str) -> str:
    """A setting's row in the table of docs/settings.md."""
    meaning = str(schema.KEYS[name].metadata["meaning"]).replace("|", "\\|")
    choices = schema.KEYS[name].metadata.get("choices", ())
    meaning += "" if all(choice in meaning for choice in choices) else f" ({', '.join(choices)})"
    default = schema.value_of(schema.Config(), name)
    return f"| `{name}` | {'`' + str(default) + '`' if default not in ('', []) else ''} | {meaning} |"


@pytest.mark.parametrize("name", sorted(schema.KEYS))
def test_every_setting_is_in_the_table(name: str) -> None:
    assert row(name) in SETTINGS.splitlines()


def test_the_table_holds_nothing_else() -> None:
    assert set(re.findall(r"^\| `(\w+\.\w+)` \|", SETTINGS, re.MULTILINE)) == set(schema.KEYS)


def test_the_readme_is_short_enough_to_read() -> None:
    assert len(README.splitlines()) < 200


def test_it_shows_the_report() -> None:
    assert f'src="{picture.PICTURE.relative_to(ROOT)}"' in README
    assert picture.PICTURE.stat().st_size < picture.MOST_BYTES
    with Image.open(picture.PICTURE) as shown:
        assert shown.format == "PNG"
        assert shown.width >= picture.VIEW["width"]


def test_the_picture_is_taken_of_a_report(run: Path, tmp_path: Path) -> None:
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"no {CHROMIUM}: `apt install chromium` brings it")
    picture.take(run / "report.html", tmp_path / "report.png")
    assert 10_000 < (tmp_path / "report.png").stat().st_size < picture.MOST_BYTES


def test_the_glossary_is_short() -> None:
    words = re.findall(r"^\| ([a-z ,-]*[a-z]) \| ", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)[1:]
    assert 10 <= len(words) <= 15
    assert {"rank", "shard", "micro-batch", "items", "attempt", "run"} < {*words}
    assert "(docs/glossary.md)" in README


@pytest.mark.parametrize("file", FILES)
def test_every_file_it_names_exists(file: str) -> None:
    assert (ROOT / file).exists()


@pytest.fixture(scope="session")
def run(mnist: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run to try the commands on that read one."""
    fixed = f"run.name=x data.root={mnist} train.epochs=1 track.wandb=disabled"
    root = made_once(tmp_path_factory, "readme", lambda folder: call(f"python -m src.train run.root={folder} {fixed}"))
    return root / "x"


def call(command: str) -> str:
    """Run a shell command with this interpreter's folder on PATH; returns its output."""
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
    printed = call(command + small)
    assert " 1 epochs, 938 steps" in printed
    if command == "torchrun --nproc_per_node=4 -m src.train":  # the README shows its lines, with ten epochs
        lines = [
            line
            for line in SHOWN.splitlines()
            if not line.startswith(("track", "run ", "epoch", "...", "result", "speed"))
        ]
        assert [line for line in lines if line not in printed.splitlines()] == []
        assert "test  7433/10000 = 74.33 %  loss 0.2677" in printed
        assert "test  7433/10000 = 74.33 %  loss 0.2677" in SHOWN


@pytest.mark.parametrize("command", [command for command in COMMANDS if "--dry-run" in command])
def test_its_dry_run_is_one(command: str, mnist: str, tmp_path: Path) -> None:
    printed = call(f"PYTHON={sys.executable} {command} run.root={tmp_path} data.root={mnist}")
    assert "6000 validation and 10000 test samples" in printed
    assert list(tmp_path.iterdir()) == []


# What is added to each command, to make it quick and to write outside this checkout.
ASIDE = {
    "src.data": "",
    "src.doctor": "run.root={folder} --only cores",
    "src.status": "{root}",
    "src.report": "--file {folder}/report.html",
    "src.predict": "",
    "src.evaluate": "data.root={folder}",
    "src.export": "--file {folder}/model.onnx",
}


@pytest.mark.parametrize(
    "command", sorted({command for command in COMMANDS if "-m src.t" not in command and "-m" in command})
)
def test_its_commands_on_a_run_work(command: str, run: Path, tmp_path: Path) -> None:
    Image.linear_gradient("L").save(tmp_path / "photo.jpg")
    command = command.replace(RUN, str(run)).replace("photo.jpg", str(tmp_path / "photo.jpg"))
    command = command.replace(" pets ", f" {draw(tmp_path / 'pets')} ") if " pets " in command else command
    aside = "" if "--follow" in command else ASIDE[command.split()[2]]
    assert call(f"{command} {aside}".format(folder=tmp_path, root=run.parent))


def test_every_command_has_a_test() -> None:
    elsewhere = (
        "make ",
        "source .venv/bin/activate",
        "launch/local.sh 4 --dry-run",
        "torchrun ",
        "python -m src.train",
        "python -m src.track push",
    )
    tried = (*elsewhere, *(f"python -m {name}" for name in ASIDE))
    assert [command for command in COMMANDS if not command.startswith(tried)] == []
    assert all(shlex.split(command) for command in COMMANDS)


@pytest.mark.slow(seconds=9)
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


MAP = re.findall(
    r"^\| ([^|]+) \| \[`([^`]+)`\]\((\S+?)#L(\d+)-L(\d+)\) `([^`]+)` \| `([^`]+)` \|$", README, re.MULTILINE
)


def place(file: str, name: str) -> tuple[int, int]:
    """First and last line of a class or function, of a `first ... last` stretch of them, or of the whole file."""
    text = (ROOT / file).read_text()
    if name == "whole":
        return 1, len(text.splitlines())
    found = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    nodes = [found[one] for one in name.split(" ... ")]
    first = min([nodes[0].lineno, *(mark.lineno for mark in nodes[0].decorator_list)])
    return first, int(nodes[-1].end_lineno or 0)


@pytest.mark.parametrize("row", MAP, ids=lambda row: row[0])
def test_the_copy_map_is_true(row: tuple[str, ...]) -> None:
    what, file, link, first, last, name, proof = row
    now = place(file, name)
    assert (link, (int(first), int(last))) == (file, now), f"{what}: write {file}#L{now[0]}-L{now[1]}"
    test_file, _, test = proof.partition("::")
    assert re.search(rf"^def {test}\(", (ROOT / test_file).read_text(), re.MULTILINE), proof


def test_the_copy_map_is_whole() -> None:
    assert len(MAP) == 9


def test_the_run_that_it_shows_is_the_default_s() -> None:
    assert set(re.findall(r"runs/mnist-\w+", README)) == {RUN}
