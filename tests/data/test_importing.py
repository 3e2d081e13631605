"""python -m src.data import: whatever the source, the last line is the command that trains on it."""

import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src import schema
from src.data import dataset as data
from src.data import importing
from src.errors import UserError
from src.world.world import World
from tests.helpers.images import encoded
from tests.helpers.picture_folders import CLASSES, draw, drawn
from tests.helpers.ranks import good_job


def load(line: str) -> data.DataSet:
    """The data set that a printed command trains on."""
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "src.train"]
    given = dict(word.removeprefix("data.").split("=", 1) for word in words[3:])
    settings = schema.Data(name=given["name"], root=given["root"], image_size=int(given.get("image_size", 0)))
    return data.load(settings, World(), lambda _: None)


def listing(root: Path) -> Path:
    """A .csv of drawn pictures in the folder `root`."""
    (root / "all").mkdir(parents=True)
    lines = ["path,label,split"]
    for at in range(24):
        name = CLASSES[at % 3]
        drawn(name, at).save(root / "all" / f"{at}.png")
        lines.append(f"all/{at}.png,{name},{'train' if at < 18 else 'test'}")
    (root / "list.csv").write_text("\r\n".join(lines))
    return root / "list.csv"


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    line = importing.run(draw(tmp_path / "my pictures"), None, schema.Data(image_size=8), False)
    assert line == f"python -m src.train data.name=folder 'data.root={tmp_path}/my pictures' data.image_size=8"
    assert (tmp_path / "my pictures" / "converted" / "8" / "test" / "images").exists()
    assert load(line).spec.shape == (3, 8, 8)


def test_a_folder_for_another_place(tmp_path: Path) -> None:
    source = draw(tmp_path / "source")
    line = importing.run(source, tmp_path / "to", schema.Data(), False)
    assert {path.name for path in source.iterdir()} == {"train", "test"}
    shutil.rmtree(source)
    assert (len(load(line).train), load(line).spec.names) == (30, CLASSES)


def test_without_a_test_set_a_part_is_held_out(tmp_path: Path) -> None:
    shutil.rmtree(draw(tmp_path) / "test")
    line = importing.run(tmp_path, None, schema.Data(), False)
    assert line.endswith(" data.validation=0.1")


def test_broken_pictures_are_left_out_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = draw(tmp_path)
    (root / "left-out.txt").write_text("train/green/0001.png")
    for name in ("train/blue/0000.png", "test/red/0002.png"):
        (root / name).write_bytes(b"text")
    with pytest.raises(
        UserError, match=r"/blue/0000\.png: is no image .*; move it away, or leave .* out: --skip-broken"
    ):
        importing.run(root, None, schema.Data(), False)
    line = importing.run(root, None, schema.Data(), True)
    listed = (root / "left-out.txt").read_text().splitlines()
    assert listed == ["train/green/0001.png", "train/blue/0000.png", "test/red/0002.png"]
    assert f"left out: {root}/train/blue/0000.png: is no image that Pillow can read" in capsys.readouterr().err
    assert (len(load(line).train), len(load(line).test)) == (28, 8)


@pytest.mark.parametrize(
    "name", ["new\nline.png", "return\r.png", "line\u2028separator.png", " .png", "\udcff.png", '"x.png']
)
def test_any_name_of_a_broken_picture_is_left_out(name: str, tmp_path: Path) -> None:
    root = draw(tmp_path)
    (root / "train" / "blue" / name).write_bytes(b"text")
    line = importing.run(root, None, schema.Data(), True)
    assert len(load(line).train) == 30


def test_a_list_of_paths_trains(tmp_path: Path) -> None:
    source = listing(tmp_path / "here")
    line = importing.run(source, tmp_path / "to", schema.Data(image_size=10), False)
    assert (len(load(line).train), len(load(line).test), load(line).spec.names) == (18, 6, CLASSES)
    good_job(2, tmp_path, *shlex.split(line)[3:], "train.epochs=1", "train.global_batch_size=6", "model.name=convnet")


def test_broken_pictures_of_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = listing(tmp_path / "here")
    (tmp_path / "here" / "all" / "4.png").write_bytes(encoded(Image.effect_noise((64, 64), 9))[:400])
    with pytest.raises(UserError, match=r"list\.csv:6: .*/4\.png: is damaged .*; mend it, or leave"):
        importing.run(source, tmp_path / "to", schema.Data(image_size=12), False)
    line = importing.run(source, tmp_path / "to", schema.Data(image_size=12), True)
    assert "left out: " in capsys.readouterr().err
    assert load(line).train.targets[:].tolist() == [at % 3 for at in range(18) if at != 4]


def test_a_table_of_pictures(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "set").mkdir()
    for split, count in (("train", 12), ("test", 6)):
        pictures = [encoded(drawn(CLASSES[at % 3], at)) for at in range(count)]
        rows = pa.table({"image": pictures, "label": [CLASSES[at % 3] for at in range(count)]})
        parquet.write_table(rows, tmp_path / "set" / f"{split}.parquet")
    line = importing.run(tmp_path / "set", tmp_path / "to", schema.Data(), False)
    assert (len(load(line).train), len(load(line).test), load(line).spec.names) == (12, 6, CLASSES)


def test_arrays_train(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    inputs, labels = random.integers(0, 256, (20, 6, 6), dtype=np.uint8), np.arange(20) % 4
    np.savez(tmp_path / "set.npz", x_train=inputs, y_train=labels, x_test=inputs[:8], y_test=labels[:8])
    line = importing.run(tmp_path / "set.npz", tmp_path / "to", schema.Data(), False)
    assert line == f"python -m src.train data.name=idx data.root={tmp_path}/to"
    assert load(line).spec.shape == (6, 6)
    good_job(1, tmp_path, *shlex.split(line)[3:], "train.epochs=1")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.csv", r"none\.csv: is not there; name a folder of pictures"),
        ("notes.txt", r"notes\.txt: is no folder, \.csv"),
        ("list.csv", r"list\.csv: where is it to be written\?; --to FOLDER"),
        ("empty", r"there is no folder .*/empty/train; put the pictures into"),
    ],
)
def test_mistakes(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "list.csv").touch()
    (tmp_path / "empty").mkdir()
    to = None if name in ("list.csv", "empty") else tmp_path / "to"
    with pytest.raises(UserError, match=message):
        importing.run(tmp_path / name, to, schema.Data(), False)
    assert sorted(os.listdir(tmp_path)) == ["empty", "list.csv", "notes.txt"]
