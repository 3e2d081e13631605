"""The rendered digits: the same bytes on every machine, in MNIST's format, of useful difficulty."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from src import schema
from src.data import dataset as data
from src.data import digits, download, idx, remembered, strokes
from src.errors import UserError
from src.world.world import World
from tests.helpers.bare_models import SPEC, logistic
from tests.helpers.ranks import ROOT

Split = tuple[strokes.Bytes, strokes.Bytes]


@pytest.fixture(scope="session")
def raw(rendered: Path) -> Path:
    return rendered / "digits" / "raw"


@pytest.fixture(scope="module")
def train(raw: Path) -> Split:
    return read(raw, idx.TRAIN)


@pytest.fixture(scope="module")
def test(raw: Path) -> Split:
    return read(raw, idx.TEST)


def read(raw: Path, names: tuple[str, ...]) -> Split:
    images, labels = ((raw / name).read_bytes() for name in names)
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


def writer(raw: Path, before: str = "") -> subprocess.Popen[str]:
    code = f"{before}\nfrom pathlib import Path\nfrom src.data import digits\ndigits.write(Path({str(raw)!r}))"
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)


def found(raw: Path) -> dict[str, str]:
    """The checksums of the files, without what is noted of them (where they are old enough to be remembered)."""
    notes = {".lock", remembered.NAME}
    return {file.name: download.sha256(file) for file in raw.iterdir() if file.name not in notes}


def test_same_bytes_everywhere(raw: Path) -> None:
    assert found(raw) == digits.SHA256, (
        "the rendered digits differ from the pinned ones: every weight trained on them changes with them. If that "
        "is meant, renew digits.SHA256; if not, something in the rendering depends on this machine or its versions"
    )


def test_mnist_s_own_format(raw: Path) -> None:
    for names, count in ((idx.TRAIN, 60_000), (idx.TEST, 10_000)):
        images, labels = ((raw / name).read_bytes() for name in names)
        assert images[:16] == b"".join(number.to_bytes(4, "big") for number in (0x803, count, 28, 28))
        assert labels[:8] == b"".join(number.to_bytes(4, "big") for number in (0x801, count))
        assert (len(images), len(labels)) == (16 + count * 28 * 28, 8 + count)


def test_loaded_as_a_data_set(raw: Path, test: Split) -> None:
    chosen = data.load(schema.Data(name="digits", root=str(raw.parents[1])), World(), print)
    assert (chosen.name, chosen.note, chosen.checksums) == ("digits", "", digits.SHA256)
    assert chosen.test.targets[:].tolist() == test[1].tolist()
    assert np.array_equal(chosen.test.inputs[:].numpy(), test[0])


def test_fitted_and_centred_as_mnist(train: Split, test: Split) -> None:
    for images, _ in (train, test):
        for axis in (1, 2):
            across = images.sum(axis, dtype=np.int64)
            first, last = (across > 0).argmax(1), 27 - (across[:, ::-1] > 0).argmax(1)
            assert (last - first).max() < 20
            centre = across @ np.arange(28) / across.sum(1)
            assert np.abs(centre - 14).max() <= 0.5
        assert images.max((1, 2)).min() > 200, "a digit is too faint to see"
        assert 0.3 < ((images > 0) & (images < 255)).sum() / (images > 0).sum() < 0.7, "edges are grey, strokes white"


def test_images_are_unique(train: Split, test: Split) -> None:
    images = np.concatenate([train[0], test[0]])
    assert len({image.tobytes() for image in images}) == 70_000


def test_labels_are_balanced(train: Split, test: Split) -> None:
    for _, labels in (train, test):
        assert np.abs(np.bincount(labels, minlength=10) / len(labels) - 0.1).max() < 0.01


def test_nearest_class_mean_classifies_most_digits_but_not_all(train: Split, test: Split) -> None:
    means = np.stack([train[0][train[1] == digit].mean(0).ravel() for digit in range(10)])
    nearest = (test[0].reshape(-1, 784) @ means.T - (means**2).sum(1) / 2).argmax(1)
    correct = [(nearest[test[1] == digit] == digit).mean() for digit in range(10)]
    assert 0.75 < np.mean(correct) < 0.95
    assert min(correct) > 0.5, "one digit cannot be told from the others"


def test_logistic_regression_learns_it(train: Split, test: Split) -> None:
    images, labels = torch.from_numpy(train[0].copy()), torch.from_numpy(train[1].copy()).long()
    model = logistic()
    network = model.build(SPEC, seed=0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for batch in torch.split(torch.randperm(60_000), 64):  # the default recipe's first epoch
        optimizer.zero_grad()
        loss, count = model.loss(network, images[batch], labels[batch])
        (loss / count).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    predicted = network(torch.from_numpy(test[0].copy())).argmax(1)
    assert 7500 < int((predicted.numpy() == test[1]).sum()) < 9000


def test_integer_arithmetic_does_not_overflow() -> None:
    random = np.random.PCG64(7)
    points, distances = strokes.write(digits._words(random, 10 * strokes.HANDS, strokes.NODES * 2))
    words = digits._words(random, 5000, digits.WORDS)
    wide = digits._render(points.astype(np.int64), distances, words.astype(np.int64))
    assert np.array_equal(digits._render(points, distances, words), wide)


def test_a_missing_file_is_rewritten_and_the_others_are_kept(raw: Path, tmp_path: Path) -> None:
    raw = shutil.copytree(raw, tmp_path / "raw")
    altered, missing = raw / "t10k-labels-idx1-ubyte", raw / "t10k-images-idx3-ubyte"
    before = altered.read_bytes()
    altered.write_bytes(b"someone's own")
    missing.unlink()
    digits.write(raw)
    digits.write(raw)
    assert altered.read_bytes() == b"someone's own"
    altered.write_bytes(before)
    assert found(raw) == digits.SHA256


def test_a_killed_writer_leaves_no_partial_file(tmp_path: Path) -> None:
    process = writer(tmp_path)
    while not any(file.name.endswith(".part") and file.stat().st_size > 1 << 20 for file in tmp_path.iterdir()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not [name for name in found(tmp_path) if name in digits.SHA256]
    digits.write(tmp_path)
    assert found(tmp_path) == digits.SHA256


def test_a_full_disk_is_a_user_error_and_leaves_no_file(tmp_path: Path) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))"
    _, error = writer(tmp_path, before=limit).communicate()
    assert f"UserError: data.root: {tmp_path} cannot be written (File too large); " in error
    assert found(tmp_path) == {}


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"data\.root: .*taken/raw cannot be written"):
        digits.write(tmp_path / "taken" / "raw")


@pytest.mark.slow(seconds=8)
def test_two_concurrent_writers_write_once(tmp_path: Path) -> None:
    processes = [writer(tmp_path) for _ in range(2)]
    for process in processes:
        _, error = process.communicate()
        assert process.returncode == 0, error
    assert found(tmp_path) == digits.SHA256
