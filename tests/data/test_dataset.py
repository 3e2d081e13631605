"""Choosing a data set: damaged files are named, and the rendered digits replace a missing MNIST."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src import schema
from src.data import blocks, digits, idx, loader
from src.data import dataset as data
from src.data.order import Permutation
from src.errors import UserError
from src.run.layout import read_status
from src.world.world import World
from tests.helpers.data_sets import NOWHERE, write_data_set, write_idx
from tests.helpers.ranks import good_job, run_job


def broken(raw: Path, name: str) -> None:
    """Break a data set in the named way."""
    images, labels = raw / idx.TRAIN[0], raw / idx.TRAIN[1]
    if name == "truncated":
        images.write_bytes(images.read_bytes()[:-10])
    elif name == "empty":
        images.write_bytes(b"")
    elif name == "no idx":
        images.write_bytes(b"\x1f\x8b" + images.read_bytes())
    elif name == "labels":
        write_idx(raw / idx.TEST[1], torch.full((100,), 11))
    elif name == "shapes":
        write_idx(raw / idx.TEST[0], torch.zeros(100, 9, 9, dtype=torch.uint8))
    elif name == "lengths":
        write_idx(labels, torch.zeros(299))
    elif name == "missing":
        labels.unlink()


@pytest.mark.parametrize(
    ("how", "advice"),
    [
        ("truncated", "its header says"),
        ("empty", "is no IDX file"),
        ("no idx", "is no IDX file"),
        ("labels", "holds the label 11; the training labels are 0..9"),
        ("shapes", "the training inputs are (28, 28) uint8, those of the test set (9, 9) uint8"),
        ("lengths", "holds 300 samples, train-labels-idx1-ubyte 299 labels"),
        ("missing", "put your files into"),
    ],
)
def test_broken_files_are_named(how: str, advice: str, tmp_path: Path) -> None:
    raw = tmp_path / "IDX" / "raw"
    write_data_set(raw, 300, 100)
    broken(raw, how)
    job = run_job(2, tmp_path, "data.name=idx", f"data.root={tmp_path}")
    assert job.codes == [2, 2], job.output
    assert job.output.count("error: ") == 1
    assert advice in job.output
    assert str(raw) in job.output
    assert "Traceback" not in job.output


def test_mapped_labels_are_said_once(tmp_path: Path) -> None:
    write_data_set(tmp_path / "IDX" / "raw", 300, 100)
    for name in (idx.TRAIN[1], idx.TEST[1]):
        stored = idx.read(tmp_path / "IDX" / "raw" / name)[:]
        write_idx(tmp_path / "IDX" / "raw" / name, stored + 1)
    job = good_job(2, tmp_path, "data.name=idx", f"data.root={tmp_path}", "train.epochs=1")
    assert job.output.count("labels 1..10 are trained as classes 0..9") == 1


def odd_labels(root: Path) -> tuple[str, ...]:
    """Labels of 16 bits with gaps, inputs of 32."""
    for files, count in ((idx.TRAIN, 300), (idx.TEST, 60)):
        pictures = torch.rand(count, 9, 9, generator=torch.Generator().manual_seed(count))
        write_idx(root / "IDX" / "raw" / files[0], pictures * 255)
        write_idx(root / "IDX" / "raw" / files[1], (torch.arange(count) % 4 * 300 - 7).to(torch.int16))
    return ("data.name=idx", "train.global_batch_size=50", "data.shuffle=blocks")


def documents(root: Path) -> tuple[str, ...]:
    for split in ("train", "test"):
        (root / "text" / split).mkdir(parents=True)
        for name in ("a.txt", "b.txt"):
            (root / "text" / split / name).write_bytes(bytes(range(256)) * 11 + name.encode())
    model = ("model.name=transformer", "model.width=16", "model.heads=2", "model.layers=1")
    return ("data.name=text", "data.block=32", "train.global_batch_size=50", *model)


@pytest.mark.parametrize("written", [odd_labels, documents])
def test_one_hash_on_any_number_of_ranks(
    written: Callable[[Path], tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A computed order, blocks of a few samples, and gathering ahead, as data larger than memory have them."""
    monkeypatch.setattr(Permutation.__init__, "__kwdefaults__", {"listed": 0})
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2000)
    monkeypatch.setattr(loader, "AHEAD_BYTES", 0)
    settings = (*written(tmp_path), f"data.root={tmp_path}", "train.sync=bitwise", "train.epochs=2")
    jobs = [good_job(ranks, tmp_path, *settings, f"run.name={ranks}") for ranks in (1, 2, 3)]
    resumed = good_job(2, tmp_path, *settings, "run.name=resumed", "train.max_steps=3")
    jobs.append(good_job(3, tmp_path, *settings, "run.name=resumed"))
    assert "resumed at step 3" in jobs[-1].output, resumed.output
    assert len({read_status(job.run)["weights_sha256"] for job in jobs}) == 1


def test_an_altered_mnist_file_is_named(mnist: str, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in idx.FILES:
        (raw / name).write_bytes((Path(mnist) / "MNIST" / "raw" / name).read_bytes())
    (raw / idx.FILES[3]).write_bytes((raw / idx.FILES[3]).read_bytes()[:-1] + b"\x00")
    with pytest.raises(UserError, match=data.MNIST_SHA256[idx.FILES[3]]):
        data.load(schema.Data(root=str(tmp_path)), World(), print)


def test_missing_mnist_falls_back_to_the_digits_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    from torchvision import datasets

    monkeypatch.setattr(datasets.MNIST, "mirrors", [NOWHERE])
    job = good_job(2, tmp_path, f"data.root={tmp_path}", "train.epochs=1", "train.global_batch_size=600")
    lines = job.output.splitlines()
    assert lines[0].startswith("NOT THE DATA ASKED FOR: training on digits, rendered here: mnist is not here")
    assert lines[1].startswith("rendering the embedded digits into ")
    assert lines[-1] == lines[0]
    assert job.run.name.startswith("digits-not-mnist-")
    assert read_status(job.run)["data"] == "digits"
    facts = json.loads((job.run / "provenance.json").read_text())
    assert facts["data"]["name"] == "digits"
    assert facts["data"]["note"].startswith("mnist is not here")
    assert facts["data"]["sha256"] == digits.SHA256


def test_an_unreadable_folder_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0)
    before = os.geteuid()
    os.seteuid(before or 12345)  # root can read every folder
    try:
        with pytest.raises(UserError, match=r"^data\.root: .* cannot be read by user \d+; chmod it"):
            data.prepare(schema.Data(root=str(tmp_path / "theirs" / "data")), print)
    finally:
        os.seteuid(before)
