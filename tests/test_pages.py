"""README.md, CONTRIBUTING.md and docs/*.md: their links, paths, settings and commands are there."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from src import config, fingerprint, schema
from tests.helpers.picture_folders import draw
from tests.helpers.ranks import ROOT

PAGES = {
    str(file.relative_to(ROOT)): file.read_text()
    for file in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
}
WIDEST = 130  # characters of a line of prose


def prose(text: str) -> str:
    """A page without its code, and without the sections that the bench writes."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^<!-- ([\w ]+) -->$.*?^<!-- end of \1 -->$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links() -> Iterator[tuple[str, str]]:
    """(page, target) of each link that leads to a file of this project or to a heading."""
    for page, text in PAGES.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
            if "://" not in target:
                yield page, target


@pytest.mark.parametrize(("page", "target"), sorted(set(links())))
def test_a_link_leads_somewhere(page: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    assert file.exists()
    if anchor and file.suffix == ".md":
        assert anchor in anchors(file.read_text())


@pytest.mark.parametrize("page", PAGES)
def test_its_lines_are_narrow_enough_to_read(page: str) -> None:
    lines = prose(PAGES[page]).splitlines()
    assert [
        line for line in lines if len(line) > WIDEST and not line.startswith("| ") and "; Python 3" not in line
    ] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_paths_that_it_names_exist(page: str) -> None:
    named = set(re.findall(r"(?<![\w/.<>])(?:src|configs|launch|docs|tests)/[\w./-]*\w", PAGES[page]))
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("page", PAGES)
def test_the_settings_that_it_gives_exist(page: str) -> None:
    sections = "|".join({name.partition(".")[0] for name in schema.KEYS} - {"model"})
    assert set(re.findall(rf"(?<![\w./])((?:{sections})\.\w+)=", PAGES[page])) <= {*schema.KEYS} | {"optim.lrr"}


@pytest.mark.parametrize("page", PAGES)
def test_the_modules_and_targets_that_it_names_exist(page: str) -> None:
    modules = set(re.findall(r"-m ((?:src|launch|tests)(?:\.\w+)+)", PAGES[page]))
    for path in (ROOT / module.replace(".", "/") for module in modules):
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), path
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", PAGES[page])) <= targets


def shown() -> Iterator[tuple[str, str]]:
    """(page, command) of each command on a line of its own that starts the job."""
    for page, text in PAGES.items():
        joined = text.replace("\\\n", " ")
        blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```", joined, re.DOTALL | re.MULTILINE))
        indented = "\n".join(
            re.findall(
                r"^    (\S.*)$", re.sub(r"^```.*?^```", "", joined, flags=re.DOTALL | re.MULTILINE), re.MULTILINE
            )
        )
        for line in f"{blocks}\n{indented}".splitlines():
            command = line.split("  #")[0].strip()
            if re.match(r"(torchrun|python -m src\.train|launch/local\.sh|srun|mpirun|HEAD=)", command):
                yield page, command


@pytest.mark.parametrize(("page", "command"), sorted(set(shown())))
def test_the_settings_of_a_command_are_right(page: str, command: str, tmp_path: Path) -> None:
    """As far as they are known without the reader's own model."""
    model = tmp_path / "mine.py"
    model.write_text("class Settings:\n    hidden: int = 1\n")
    words = [word for word in shlex.split(command) if "." in word.partition("=")[0] and "=" in word and word[0] != "-"]
    mine = re.compile(r"model\.name=(path/to/mine|examples/\w+)\.py")
    config.parse([mine.sub(f"model.name={model}", word) for word in words])


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[pytest.mark.slow(seconds=8)] if "transformer.yaml" in command else [])
        for page, command in sorted(set(shown()))
        if page == "docs/your-data.md"
    ]
    + re.findall(r"^    (python -m src\.data .*)$", PAGES["docs/your-data.md"], re.MULTILINE),
)
def test_the_commands_for_your_data_work(command: str, tmp_path: Path) -> None:
    draw(tmp_path / "pets")
    for name, size in (("train", 6000), ("test", 600)):
        (tmp_path / "data" / "text").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "text" / f"{name}.txt").write_bytes(b"a line of text\n" * (size // 15))
    file = re.sub(r"config=(\S+)", rf"config={ROOT}/\1", command)
    short = " train.max_steps=2 track.wandb=disabled" if "src.train" in command else ""
    variables = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        shlex.split(file + short), cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "src.train" not in command or "2 steps" in done.stdout


@pytest.mark.parametrize(
    ("name", "refusal"), [("pictures", "takes pictures in colour"), ("regression", "takes targets")]
)
def test_an_example_refuses_other_data_in_one_line(name: str, refusal: str, small: str, tmp_path: Path) -> None:
    """As the page says of a ValueError, also where model.name= is a relative path, as in the page's commands."""
    (code,) = re.findall(rf"```python\n(# examples/{name}\.py\n.*?)```", PAGES["docs/your-model.md"], re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    command = [sys.executable, "-m", "src.train", "model.name=mine.py", "data.name=idx", f"data.root={small}"]
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"error: mine.py: {refusal}")


def test_the_settings_that_start_no_other_run() -> None:
    """docs/settings.md names all of those that the fingerprint never holds."""
    paragraph = PAGES["docs/settings.md"].rpartition("may change when a run is resumed:")[2]
    named = re.findall(r"`(\w+)\.(\w+|\*)`", paragraph)
    listed = {
        name
        for name in schema.KEYS
        if any(name == f"{section}.{key}" or (key == "*" and name.startswith(f"{section}.")) for section, key in named)
    }
    never = {name for name, setting in schema.KEYS.items() if not setting.metadata.get("fingerprinted")}
    kinds = (
        ["optim.schedule=wsd", "optim.name=adamw", "data.validation=0.1", "data.name=folder", "data.shuffle=blocks"],
        ["data.name=text", "model.name=transformer", "train.sync=bitwise"],
    )
    sometimes = {name for words in kinds for name in fingerprint.shaping(config.parse(words))}
    assert listed == never - (sometimes - {"train.epochs"})


def commands() -> Iterator[tuple[str, str]]:
    """(module, command) of each of the project's commands, in a block or within a sentence."""
    pattern = r"python -m ((?:src|launch)\.\w+)((?: [^`#|\n]+)?)"
    for text in PAGES.values():
        for module, rest in re.findall(pattern, text.replace("\\\n", " ")):
            if module not in ("src.train", "launch.torchrun"):  # they have no options of their own, or torchrun's
                yield module, rest.strip()


@pytest.mark.parametrize("module", sorted({module for module, _ in commands()}))
def test_the_options_of_a_command_exist(module: str) -> None:
    asked = {option for one, rest in commands() if one == module for option in re.findall(r"(?<!\S)--[a-z-]+", rest)}
    done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert asked <= set(re.findall(r"--[a-z-]+", done.stdout)), done.stdout


@pytest.mark.parametrize(
    "rest", sorted({rest for module, rest in commands() if module == "launch.submit" and "nodes" in rest})
)
def test_a_submission_prints_its_script(rest: str, tmp_path: Path) -> None:
    words = [word for word in shlex.split(rest.partition(",")[0]) if word not in ("key=value", "...")]
    command = [sys.executable, "-m", "launch.submit", *words, "--dry-run", f"run.root={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "#SBATCH --nodes=2" in done.stdout
