"""Models that nothing in src knows, from files outside the tree: trained, resumed, measured, used; edited, refused."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from src.run import jsonl, layout, tables
from src.run.layout import read_status
from tests.helpers import strangers as strangers_room
from tests.helpers.commands import command
from tests.helpers.images import encoded
from tests.helpers.wandb_runs import offline

METRICS = {"colours": ["top1", "nll"], "tokens": ["loss", "right"], "outputs": ["loss"]}


@pytest.mark.parametrize("name", strangers_room.NAMES)
def test_every_file_of_the_run_has_the_metrics_of_the_model(name: str, strangers: Path) -> None:
    run = strangers / name / "runs" / name
    status = read_status(run)
    assert (status["state"], status["epoch"], status["world_size"]) == ("finished", 2, 3)
    lines = [line for line in jsonl.read(run / layout.METRICS) if line["kind"] == "test"]
    assert [line["epoch"] for line in lines] == [1, 2]
    described = tables.read(run, "metrics")
    assert described["names"] == METRICS[name]
    for metric in METRICS[name]:
        assert lines[-1][metric] == status[metric]
    assert (tables.read(run, "confusion") is not None) == (name == "colours")
    assert "killed" not in command("src.status", str(run)).stdout


@pytest.mark.parametrize("name", strangers_room.NAMES)
def test_evaluate_measures_what_training_did(name: str, strangers: Path) -> None:
    run = strangers / name / "runs" / name
    done = command("src.evaluate", str(run))
    assert done.returncode == 0, done.stderr
    checkpoint, result = done.stdout.splitlines()
    assert checkpoint == f"{run}/checkpoints/best.pt on idx"
    best = tables.read(run, "metrics")["best"]
    lines = [line for line in jsonl.read(run / layout.METRICS) if line["kind"] == "test"]
    values = [line[best] for line in lines]
    value = max(values) if best == "top1" else min(values)
    assert (f"{100 * value:.2f} %" if best == "top1" else f"loss {value:.4f}") in result


def test_data_of_another_kind_are_refused_in_one_line(strangers: Path) -> None:
    run = strangers / "outputs" / "runs" / "outputs"
    done = command("src.evaluate", str(run), f"data.root={strangers / 'tokens' / 'data'}")
    assert done.returncode == 2
    raw = strangers / "tokens" / "data" / "IDX" / "raw"
    kinds = "the training inputs are (3,) float32, those of the test set (8,) uint8"
    assert done.stderr == f"error: {raw}: {kinds}\n"


@pytest.mark.parametrize("name", strangers_room.NAMES)
def test_wandb_is_sent_what_fits(name: str, tmp_path: Path) -> None:
    done = strangers_room.train(name, tmp_path, "train.epochs=1", "track.wandb=offline", ranks=1)
    assert "warning" not in done.output
    history = offline(done.run)
    tested = next(line for line in history if f"test/{METRICS[name][0]}" in line)
    assert {f"test/{metric}" for metric in METRICS[name]} <= tested.keys()
    pictures = {key.split(".")[0] for key in history[-1]} & {"templates", "confusion", "most_wrong"}
    assert pictures == ({"confusion", "most_wrong"} if name == "colours" else set())
    if pictures:
        assert (history[-1]["confusion.nrows"], history[-1]["most_wrong.nrows"] > 0) == (4, True)


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """A run whose model's file was edited afterwards."""
    strangers_room.train("colours", tmp_path, "train.epochs=1", ranks=1)
    edit(tmp_path / "models" / "colours.py", "/ 255 - 0.5", "/ 255 - 0.25")
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (12, 12), (200, 30, 30))))
    return tmp_path / "runs" / "colours"


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


COMMANDS = ("src.predict {run} {folder}/a.png", "src.evaluate {run}", "src.export {run} --to {to}")


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words.split()[0])
def test_an_edited_model_is_refused_and_the_copy_named(words: str, edited: Path) -> None:
    folder = edited.parent.parent
    module, *arguments = words.format(run=edited, folder=folder, to="safetensors").split()
    done, copied = command(module, *arguments), edited / "model" / "colours.py"
    file = folder / "models" / "colours.py"
    fix = f"the copy of the file that did: --model {copied}"
    assert done.returncode == 2
    assert done.stderr == f"error: {edited}: {file} is not the file that trained it; {fix}\n"
    good = command(module, *arguments, "--model", str(copied))
    assert good.returncode == 0, good.stderr
    assert "checkpoints/best.pt" in good.stdout + good.stderr
    assert command(module, *arguments, "--model", str(file)).returncode == 2
    edit(file, "- 0.25", "- 0.5")
    file.write_text(f"{file.read_text()}\n# as before\n")
    assert command(module, *arguments).returncode == 0, "a comment is no edit"
    file.unlink()
    assert command(module, *arguments).returncode == 0, "the copy is the file where that has gone"


def test_the_report_of_an_edited_model_is_by_the_copy(edited: Path) -> None:
    done = command("src.report", str(edited))
    assert (done.returncode, done.stderr) == (0, "weights of best.pt\n")
    page = (edited / "report.html").read_text()
    facts = json.loads(page.split('id="facts">')[1].split("</script>")[0])
    assert facts["runs"][0]["wrong"] is not None


def test_the_data_are_as_written(tmp_path: Path) -> None:
    """Float labels and tokens survive the IDX files."""
    strangers_room.write_samples("outputs", tmp_path)
    inputs, targets = strangers_room.samples("outputs", strangers_room.TRAIN, torch.Generator().manual_seed(0))
    from src.data import idx

    raw = tmp_path / "IDX" / "raw"
    assert torch.equal(idx.read(raw / "train-images-idx3-ubyte")[:], inputs)
    assert torch.equal(idx.read(raw / "train-labels-idx1-ubyte")[:], targets)
