"""data.name=folder: from pictures in class folders to a trained model, and every mistake in one line."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps

from src import schema
from src.data import dataset as data
from src.data import image_folder
from src.errors import UserError
from src.evaluation.measure import evaluate
from src.export import weights
from src.predict import classify
from src.report import page
from src.run import trained
from src.run.layout import read_status
from src.world.world import World
from tests.helpers.commands import command
from tests.helpers.picture_folders import CLASSES, draw, drawn
from tests.helpers.ranks import good_job, run_job


def settings(root: Path, **more: int) -> schema.Data:
    return schema.Data(name="folder", root=str(root), **more)  # type: ignore[arg-type]


def load(root: Path, **more: int) -> data.DataSet:
    return data.load(settings(root, **more), World(), lambda _: None)


def test_pictures_labels_and_names(tmp_path: Path) -> None:
    dataset = load(draw(tmp_path))
    assert (len(dataset.train), len(dataset.test)) == (30, 9)
    assert (dataset.spec.shape, dataset.spec.dtype, dataset.spec.classes) == ((3, 12, 12), torch.uint8, 3)
    assert dataset.spec.names == CLASSES
    assert dataset.test.targets[:].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert dataset.checksums.keys() == {*image_folder.FILES}


def test_labels_of_the_test_set_follow_the_training_s_by_name(tmp_path: Path) -> None:
    shutil.rmtree(draw(tmp_path) / "test" / "blue")
    dataset = load(tmp_path)
    assert dataset.test.targets[:].tolist() == [1, 1, 1, 2, 2, 2]


def test_the_arrays_are_enough(tmp_path: Path) -> None:
    before = load(draw(tmp_path), image_size=8)
    shutil.rmtree(tmp_path / "train")
    shutil.rmtree(tmp_path / "test")
    after = load(tmp_path, image_size=8)
    assert after.checksums == before.checksums
    assert after.spec.shape == (3, 8, 8)
    with pytest.raises(UserError, match=r"there is no folder .*/train; put the pictures into"):
        load(tmp_path)


def test_the_test_pictures_alone_for_a_trained_model(tmp_path: Path) -> None:
    """Brought to the shape and to the labels of the model, where no training pictures are."""
    spec = load(draw(tmp_path / "one")).spec
    draw(tmp_path / "two", mode="L")
    shutil.rmtree(tmp_path / "two" / "train")
    found = data.load_test(settings(tmp_path / "two"), spec, lambda _: None)
    assert found.test.inputs.shape == (9, 3, 12, 12)
    shutil.rmtree(tmp_path / "two" / "test")
    draw(tmp_path / "two", size=(14, 14))
    shutil.rmtree(tmp_path / "two" / "train")
    with pytest.raises(UserError, match=r"is 14 x 14 pixels, those of the training set 12 x 12; data\.image_size=12"):
        data.load_test(settings(tmp_path / "two"), spec, lambda _: None)


def test_a_model_of_another_shape_leaves_the_arrays_of_the_set_as_they_are(tmp_path: Path) -> None:
    spec, own = load(draw(tmp_path / "one")).spec, load(draw(tmp_path / "two", mode="L"))
    at = tmp_path / "two" / "converted" / "own-size"
    before = (at / "test" / "source.json").stat().st_ino
    for _ in range(2):
        found = data.load_test(settings(tmp_path / "two"), spec, lambda _: None)
        assert found.test.inputs.shape == (9, 3, 12, 12)
    assert (at / "test" / "source.json").stat().st_ino == before
    assert load(tmp_path / "two").checksums == own.checksums
    assert (tmp_path / "two" / "converted" / "own-size-as-3x12x12" / "test" / "images").exists()
    assert data.load_test(settings(tmp_path / "two"), own.spec, lambda _: None).test.inputs.shape == (9, 12, 12)
    shutil.rmtree(tmp_path / "two" / "test")
    with pytest.raises(UserError, match=r"training inputs are \(3, 12, 12\) uint8, those of the test set \(12, 12\)"):
        data.load_test(settings(tmp_path / "two"), spec, lambda _: None)


def test_pictures_that_are_left_out_are_said_at_each_start(tmp_path: Path) -> None:
    (draw(tmp_path) / "left-out.txt").write_text("train/blue/0000.png\n")
    for _ in range(2):
        lines: list[str] = []
        dataset = data.load(settings(tmp_path), World(), lines.append)
        assert len(dataset.train) == 29
        assert f"{tmp_path}/left-out.txt: 1 pictures of train are left out" in lines


def test_a_read_only_folder_that_is_converted_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(draw(tmp_path))
    monkeypatch.setattr(os, "open", None)  # nothing is opened for writing, not even the lock
    assert len(load(tmp_path).train) == 30


def test_what_is_not_converted_is_taken_for_colour_pictures(tmp_path: Path) -> None:
    assert image_folder.assumed(settings(tmp_path)).shape == (3, 224, 224)
    assert image_folder.assumed(settings(draw(tmp_path), image_size=8)).classes == 3
    assert image_folder.has_test(settings(tmp_path))
    assert not image_folder.has_test(settings(tmp_path / "elsewhere"))


def test_the_state_before_and_after(tmp_path: Path) -> None:
    draw(tmp_path)
    assert image_folder.state(settings(tmp_path)) == (False, 39)
    load(tmp_path)
    assert image_folder.state(settings(tmp_path)) == (True, 39)
    drawn("red", 5).save(tmp_path / "train" / "red" / "new.png")
    assert image_folder.state(settings(tmp_path)) == (False, 40)


def remove(name: str) -> Callable[[Path], object]:
    return lambda root: shutil.rmtree(root / name)


def rename(old: str, new: str) -> Callable[[Path], object]:
    return lambda root: (root / old).rename(root / new)


def cut(root: Path) -> None:
    file = root / "train" / "red" / "cut.jpg"
    drawn("red", 0).save(file)
    file.write_bytes(file.read_bytes()[:-200])


def one_picture(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train" / "red").mkdir(parents=True)
    drawn("red", 0).save(root / "train" / "red" / "0.png")


def no_picture(root: Path) -> None:
    for file in (root / "train" / "green").iterdir():
        file.unlink()


def large(root: Path) -> None:
    drawn("red", 0, (20, 12)).save(root / "train" / "red" / "large.png")


def dangling(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").symlink_to(root / "elsewhere")


BAD = {
    "class": (
        rename("test/red", "test/rot"),
        r"/test: holds the class rot, which the training set lacks; rename it \(tra",
    ),
    "one picture": (one_picture, r"/train: holds one class, red \(1 pictures\); a model tells two or more apart"),
    "zero pictures": (no_picture, r"/train/green: the class has no picture; put one there, or move the folder away"),
    "no training set": (remove("train"), r"there is no folder .*/train; put the pictures into .*/train/CLASS, or name"),
    "no test set": (remove("test"), r"there is no folder .*/test; put the test pictures into .*/test/CLASS, or hold"),
    "val": (
        rename("test", "val"),
        r"there is no folder .*/test; name .*/val so: ln -s val .*/test; or hold out a part",
    ),
    "other size": (large, r"large\.png: is 20 x 12 pixels, .*/train/blue/0000\.png 12 x 12; data\.image_size=64 br"),
    "truncated": (cut, r"/red/cut\.jpg: is damaged \(.*\); move it away, or leave all such out: .* --skip-broken"),
    "dangling": (dangling, r"/train is a link to .*elsewhere, which is not there; mend"),
}


@pytest.mark.parametrize("how", BAD)
def test_a_mistake_is_one_line_and_leaves_nothing(how: str, tmp_path: Path) -> None:
    spoil, message = BAD[how]
    spoil(draw(tmp_path / "data"))
    with pytest.raises(UserError, match=message):
        load(tmp_path / "data")
    converted = tmp_path / "data" / "converted" / "own-size"
    assert not converted.exists() or {path.name for path in converted.iterdir()} <= {".lock"}


def test_all_ranks_end_with_2_and_one_line(tmp_path: Path) -> None:
    cut(draw(tmp_path / "data"))
    job = run_job(2, tmp_path, "data.name=folder", f"data.root={tmp_path / 'data'}")
    assert job.codes == [2, 2], job.output
    assert job.output.count("error: ") == 1
    assert "Traceback" not in job.output


@pytest.mark.parametrize("model", ["logistic", "convnet"])
def test_colour_pictures_train_a_model(model: str, tmp_path: Path) -> None:
    draw(tmp_path / "data", size=(16, 20))
    more = ("data.name=folder", f"data.root={tmp_path / 'data'}", "data.image_size=12", f"model.name={model}")
    job = good_job(2, tmp_path, *more, "train.epochs=2", "train.global_batch_size=6")
    assert job.run.name.startswith("folder-")
    assert "30 training and 9 test samples" in job.output
    recorded = json.loads((job.run / "provenance.json").read_text())["data"]["sha256"]
    assert recorded.keys() == {*image_folder.FILES}
    assert "image_size: 12" in (job.run / "config.yaml").read_text()


def test_one_hash_on_one_two_and_three_ranks(tmp_path: Path) -> None:
    root = draw(tmp_path / "data", train=40)
    hashes = []
    for ranks in (1, 2, 3):
        folder = tmp_path / str(ranks)
        shutil.copytree(root, folder / "data")  # converted by each job, from copies with other times
        more = ("data.name=folder", f"data.root={folder / 'data'}", "train.sync=bitwise", "model.name=convnet")
        job = good_job(ranks, folder, *more, "train.epochs=2", "train.global_batch_size=16")
        hashes.append(read_status(job.run)["weights_sha256"])
    assert len({*hashes}) == 1


def test_what_was_learnt_is_called_by_its_name(tmp_path: Path) -> None:
    """Trained, predicted, reported, exported: a training picture has the same pixels again."""
    root = draw(tmp_path / "data", train=60, size=(20, 16), kind="jpg")
    more = ("data.name=folder", f"data.root={root}", "data.image_size=12", "model.loss=cross_entropy", "optim.lr=0.5")
    job = good_job(2, tmp_path, *more, "train.epochs=12", "train.global_batch_size=6")
    assert read_status(job.run)["accuracy"] > 0.8
    assert '"classes":{"0":"blue","1":"green","2":"red"}' in (job.run / "report.html").read_text()

    run = classify.load(job.run)
    train = data.load(run.settings.data, World(), lambda _: None).train
    for index, name in ((0, "blue/0000.jpg"), (20, "green/0001.jpg"), (59, "red/0059.jpg")):
        inputs, preparation, _ = classify.inputs_of(run, name, (root / "train" / name).read_bytes())
        assert torch.equal(inputs[0], train.inputs[index])
    assert preparation == "resized to 12 x 12, RGB"

    done = command("src.predict", str(job.run), f"{root}/train/red/0059.jpg")
    assert re.fullmatch(r".*/0059\.jpg: red \(.* %\), then (blue|green) \(.* %\)  \[resized.*\]\n", done.stdout)
    done = command("src.predict", str(job.run), f"{root}/train/red/0059.jpg", "--json")
    answer = json.loads(done.stdout)
    assert (answer["class"], answer["name"]) == (2, "red")
    assert CLASSES[answer["runner_up"]] == answer["runner_up_name"]

    facts = weights.facts(run, evaluate(run.model, run.module, trained.test_of(run).test))
    assert json.loads(facts["classes"]) == list(CLASSES)


def test_grey_pictures_of_mnist_s_size_are_not_prepared_as_mnist_s(tmp_path: Path) -> None:
    root = draw(tmp_path / "data", size=(28, 28), mode="L")
    for file in root.rglob("*.png"):
        ImageOps.invert(Image.open(file)).save(file)
    for number in range(7):  # ten classes: a report of digits has a box to draw in
        shutil.copytree(root / "train" / "red", root / "train" / f"z{number}")
    job = good_job(1, tmp_path, "data.name=folder", f"data.root={root}", "train.epochs=1")
    run = classify.load(job.run)
    inputs, *_ = classify.inputs_of(run, "x", (root / "train" / "red" / "0002.png").read_bytes())
    train = data.load(run.settings.data, World(), lambda _: None).train
    assert torch.equal(inputs[0], train.inputs[20])
    content = page.one(job.run, run.settings, page.sources_of(job.run, run.settings))
    assert content["weights"] is None
    assert content["unfit"]["draw"].startswith("Drawing needs")
