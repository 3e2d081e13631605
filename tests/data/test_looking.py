"""Data sets that are looked at: what is missing is neither fetched nor made."""

from pathlib import Path

from src import schema
from src.data import kinds, looking
from src.world.world import World
from tests.helpers.data_sets import write_data_set
from tests.helpers.dry_runs import dry, settings
from tests.helpers.picture_folders import draw
from tests.helpers.ranks import run_job


def test_data_that_would_be_fetched(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "train-images-idx3-ubyte.gz").write_bytes(b"x")
    said = dry(2, tmp_path, f"data.root={tmp_path / 'none'}", f"data.mirrors=[{mirror}]")
    assert f"; would be fetched from {mirror} into {tmp_path / 'none'}/MNIST/raw: tried on noise" in said["data"]
    assert said["steps"].startswith("938 an epoch, the last with 32 samples; 9380 in all")
    assert said["run"].startswith(f"{tmp_path}/runs/mnist-")
    assert not (tmp_path / "none").exists()


def test_data_that_would_be_rendered(tmp_path: Path) -> None:
    said = dry(1, tmp_path, f"data.root={tmp_path / 'none'}", "data.name=digits")
    assert "would be rendered into" in said["data"]
    said = dry(1, tmp_path, f"data.root={tmp_path / 'none'}", "data.name=text", "model.name=transformer")
    assert said["NOT THE"].startswith("ATA ASKED FOR: training on sums")
    assert "would be rendered into" in said["data"]
    assert "/sums-not-text-" in said["run"]


def test_pictures_are_not_converted(tmp_path: Path) -> None:
    pets = draw(tmp_path / "pets")
    said = dry(1, tmp_path, "data.name=folder", f"data.root={pets}", "data.image_size=32")
    assert "pictures would be converted into" in said["data"]


def test_the_user_s_own_data_must_be_there(tmp_path: Path) -> None:
    refused = run_job(1, tmp_path, "--dry-run", "data.name=idx", f"data.root={tmp_path / 'none'}")
    assert refused.codes == [2]
    assert "error: data.name=idx: put your files into" in refused.output


def test_checksums_are_not_computed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_data_set(root / "IDX" / "raw", 300, 40)
    found, lacking = looking.look(schema.Data(name="idx", root=str(root)), World(), print)
    assert (found.checksums, lacking) == ({}, "")
    assert not looking.is_checked(found, schema.Data(name="idx", root=str(root)))
    said = dry(1, tmp_path, *settings(str(root)))
    assert said["data"].startswith("idx: 300 training and 40 test samples; ")
    assert not (root / "IDX" / "raw" / ".checksums.json").exists()


def test_the_sizes_of_all_data_sets_that_can_be_had_are_known() -> None:
    mine = {"folder", "idx", "text", "sums"}
    assert {*looking.SIZES} == {*kinds.FOLDERS} - mine
