"""Text as bytes in blocks: each with the byte that follows; what is no text for it is refused in one line."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src import config, schema
from src.data import dataset as data
from src.data import sums, text
from src.data.loader import ShardedLoader
from src.data.splits import Spec
from src.errors import UserError
from src.world.world import World
from tests.helpers.ranks import run_job

BYTES = bytes(range(256)) * 3


def written(root: Path, train: bytes = BYTES, test: bytes = BYTES) -> schema.Data:
    """A text data set in `root`, in blocks of 10 bytes."""
    (root / "text").mkdir(exist_ok=True)
    (root / "text" / "train.txt").write_bytes(train)
    (root / "text" / "test.txt").write_bytes(test)
    return schema.Data(name="text", root=str(root), block=10)


def test_each_byte_has_the_one_that_follows(tmp_path: Path) -> None:
    loaded = data.load(written(tmp_path, test=BYTES[:31]), World(), print)
    assert loaded.spec == Spec((10,), torch.uint8, 0, (10,), torch.uint8)
    assert loaded.train.inputs.shape == (76, 10), "the last 7 bytes fill no block"
    assert bytes(loaded.train.inputs[:].flatten().tolist()) == BYTES[:760]
    assert bytes(loaded.train.targets[:].flatten().tolist()) == BYTES[1:761]
    assert len(loaded.test) == 3, "a block needs a byte after it"
    assert loaded.checksums.keys() == {"train.txt", "test.txt"}


def test_both_are_views_of_one_mapped_file(tmp_path: Path) -> None:
    split = data.load(written(tmp_path), World(), print).train
    assert split.inputs[:].data_ptr() + 1 == split.targets[:].data_ptr()
    content = bytearray(BYTES)
    content[5] ^= 255
    with (tmp_path / "text" / "train.txt").open("r+b") as stream:
        stream.write(content)
    assert int(split.inputs[0][5]) == int(split.targets[0][4]) == content[5], "mapped, not read"


def test_line_ends_and_other_bytes_are_bytes(tmp_path: Path) -> None:
    odd = b"a\r\nb\x00\xff" * 4
    split = data.load(written(tmp_path, odd, odd), World(), print).test
    assert bytes(split.inputs[0].tolist()) == odd[:10]


def test_a_rank_gathers_its_blocks(tmp_path: Path) -> None:
    """Gathered blocks are those of the text, also from a mapped view that starts at an odd byte."""
    split = data.load(written(tmp_path), World(), print).train
    train = config.parse(["train.global_batch_size=20"]).train
    batches = ShardedLoader(split, train, range(1), 1, torch.device("cpu"))
    parts = [batch for (batch,) in batches.epoch(0)]
    assert sum(len(part.inputs) for part in parts) == 76
    assert all(torch.equal(part.inputs[:, 1:], part.targets[:, :-1]) for part in parts)


def test_an_empty_text_and_one_that_is_too_short(tmp_path: Path) -> None:
    for size, fix in ((0, "take a longer text"), (1, "take a longer text"), (10, "or a smaller data.block=")):
        with pytest.raises(UserError) as error:
            data.load(written(tmp_path, test=BYTES[:size]), World(), print)
        assert f"test.txt: is {size} bytes long, data.block=10 needs 11 at least; take a longer" in str(error.value)
        assert str(error.value).endswith(fix)
        assert "\n" not in str(error.value)
    assert len(data.load(written(tmp_path, test=BYTES[:11]), World(), print).test) == 1


def in_folders(root: Path, train: dict[str, bytes], test: dict[str, bytes]) -> schema.Data:
    """A text data set whose texts are folders of documents."""
    for split, documents in (("train", train), ("test", test)):
        (root / "text" / split).mkdir(parents=True)
        for name, content in documents.items():
            (root / "text" / split / name).write_bytes(content)
    return schema.Data(name="text", root=str(root), block=10)


def test_a_text_may_be_a_folder_of_documents(tmp_path: Path) -> None:
    documents = {"b.txt": BYTES[:31], "a.txt": BYTES[100:157], "empty.txt": b"", "short.txt": b"0123456789"}
    said: list[str] = []
    settings = in_folders(tmp_path, documents, {"one.txt": BYTES[:11], "notes.md": b"# none"})
    loaded = data.load(settings, World(), said.append)
    assert said == [f"{tmp_path}/text/train/empty.txt and 1 more: left out, shorter than data.block=10 and a byte"]
    inputs, targets = (bytes(rows[:].flatten().tolist()) for rows in (loaded.train.inputs, loaded.train.targets))
    assert inputs == BYTES[100:150] + BYTES[:30], "in the order of names, and no block is of two documents"
    assert targets == BYTES[101:151] + BYTES[1:31]
    assert len(loaded.test) == 1
    assert [*loaded.checksums] == [f"train/{name}" for name in sorted(documents)] + ["test/one.txt"]
    with (tmp_path / "text" / "train" / "b.txt").open("r+b") as stream:
        stream.write(b"?")
    assert int(loaded.train.inputs[5][0]) == ord("?"), "mapped, not read"
    chosen = config.parse(["train.global_batch_size=3"]).train
    for (batch,) in ShardedLoader(loaded.train, chosen, range(1), 1, torch.device("cpu")).epoch(0):
        assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])


def test_one_text_may_be_a_file_and_the_other_a_folder(tmp_path: Path) -> None:
    settings = in_folders(tmp_path, {"a.txt": BYTES}, {"a.txt": BYTES})
    shutil.rmtree(tmp_path / "text" / "test")
    (tmp_path / "text" / "test.txt").write_bytes(BYTES)
    assert [*data.load(settings, World(), print).checksums] == ["train/a.txt", "test.txt"]
    assert [*data.load_test(settings, text.assumed(settings), print).checksums] == ["test.txt"]
    shutil.rmtree(tmp_path / "text" / "train")
    with pytest.raises(UserError, match=r"text holds test\.txt alone; put train\.txt"):
        data.prepare(settings, print)


def test_folders_of_documents_that_are_none(tmp_path: Path) -> None:
    settings = in_folders(tmp_path, {"a.txt": b"0123456789", "b.txt": b"012"}, {"a.txt": BYTES})
    train = tmp_path / "text" / "train"
    with pytest.raises(UserError, match=r"train: the longest of 2 files is 10 bytes long, data\.block=10 needs 11 at"):
        data.load(settings, World(), print)
    (tmp_path / "text" / "train.txt").write_bytes(BYTES)
    with pytest.raises(UserError, match=r"text: holds both train\.txt and the folder train; move one of them away"):
        data.load(settings, World(), print)
    (tmp_path / "text" / "train.txt").unlink()
    (train / "deeper").mkdir()
    with pytest.raises(UserError, match=r"train/deeper: is a folder in a text's folder; put its files into"):
        data.load(settings, World(), print)
    shutil.rmtree(train)
    train.mkdir()
    with pytest.raises(UserError, match=r"train: holds no \.txt file; put the documents there, or one text beside it"):
        data.load(settings, World(), print)


@pytest.mark.parametrize("name", text.FILES)
def test_one_of_the_two_files_is_not_enough(name: str, tmp_path: Path) -> None:
    """Half of a user's own text is a mistake, and nothing to replace by rendered sums."""
    settings = written(tmp_path)
    (tmp_path / "text" / name).unlink()
    (there,) = {*text.FILES} - {name}
    with pytest.raises(UserError, match=rf"^data\.name=text: .*/text holds {there} alone; put train\.txt, test\.txt"):
        data.prepare(settings, print)
    assert not (tmp_path / "sums").exists()


@pytest.mark.parametrize("close", [lambda folder: folder.chmod(0), lambda folder: (folder / "test.txt").chmod(0)])
def test_a_folder_or_a_file_without_rights(close: Callable[[Path], None], tmp_path: Path) -> None:
    settings = written(tmp_path)
    close(tmp_path / "text")
    before = os.geteuid()
    os.seteuid(before or 12345)  # root can read every folder
    try:
        with pytest.raises(UserError, match=r"text(/test\.txt)?:? cannot be read"):
            data.prepare(settings, print)
    finally:
        os.seteuid(before)
        (tmp_path / "text").chmod(0o700)


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    settings = written(tmp_path)
    (tmp_path / "text" / "test.txt").unlink()
    (tmp_path / "text" / "test.txt").mkdir()
    with pytest.raises(UserError, match=r"test\.txt: cannot be read \(Is a directory\)"):
        data.prepare(settings, print)


def test_no_text_is_replaced_by_rendered_sums_or_refused(tmp_path: Path) -> None:
    said: list[str] = []
    settings = schema.Data(name="text", root=str(tmp_path))
    loaded = data.load(settings, World(), said.append)
    assert loaded.headline.startswith("NOT THE DATA ASKED FOR: training on sums, rendered here: text is not here and ")
    assert said == [f"{loaded.headline}\nrendering the embedded sums into {tmp_path / 'sums'}"]
    assert (loaded.name, loaded.checksums) == ("sums", sums.SHA256)
    assert not (tmp_path / "text").exists()
    strict = schema.Data(name="text", root=str(tmp_path), fallback="none")
    with pytest.raises(UserError, match=r"^data\.name=text: .*/text holds no train\.txt and no test\.txt; put "):
        data.load(strict, World(), print)


def test_altered_sums_are_named(tmp_path: Path) -> None:
    settings = schema.Data(name="sums", root=str(tmp_path))
    assert data.load(settings, World(), lambda _: None).headline == "training on sums"
    (tmp_path / "sums" / "test.txt").write_text("1+1=3\n" * 20)
    with pytest.raises(UserError, match=r"sums/test\.txt: is damaged or altered: SHA-256"):
        data.load(settings, World(), print)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.block=1000", "train.txt: is 768 bytes long, data.block=1000 needs 1001 at least"),
        ("model.name=logistic", "logistic.py: has an output for each class, and the targets of this data are no class"),
        (
            "model.name=convnet",
            "convnet.py: needs pictures of at least 4 x 4 pixels, in two classes or more; these are",
        ),
    ],
)
def test_a_job_refuses_in_one_line(setting: str, said: str, tmp_path: Path) -> None:
    written(tmp_path)
    job = run_job(2, tmp_path, "data.name=text", f"data.root={tmp_path}", "model.name=transformer", setting)
    assert job.codes == [2, 2], job.output
    assert job.output.count("\n") == 1, job.output
    assert said in job.output
