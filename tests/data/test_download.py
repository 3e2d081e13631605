"""Downloads: each file once for all ranks, verified, and never a partial file."""

import gzip
import hashlib
import re
import resource
import shutil
from pathlib import Path

import pytest

from src import schema
from src.data import dataset as data
from src.data import download, idx
from src.errors import UserError
from src.world.world import World
from tests.helpers.data_sets import NOWHERE, write_data_set
from tests.helpers.mirrors import mirror
from tests.helpers.ranks import fork, good_job, run_job

TIMEOUT = 8  # seconds: a slow mirror takes longer, and that is no lost rank


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four small .gz files that torchvision is made to expect as KMNIST's."""
    from torchvision import datasets

    raw, folder = tmp_path / "unpacked", tmp_path / "packed"
    write_data_set(raw, 300, 100)
    folder.mkdir()
    resources = []
    for name in idx.FILES:
        content = gzip.compress((raw / name).read_bytes(), mtime=0)
        (folder / f"{name}.gz").write_bytes(content)
        resources.append((f"{name}.gz", hashlib.md5(content).hexdigest()))
    monkeypatch.setattr(datasets.KMNIST, "resources", resources)
    monkeypatch.setattr(datasets.KMNIST, "mirrors", [NOWHERE])
    return folder


def settings(root: Path, *mirrors: str, fallback: str = "none", name: str = "kmnist") -> schema.Data:
    return schema.Data(name=name, root=str(root), mirrors=list(mirrors), fallback=fallback)


def start(root: Path, *mirrors: str, world_size: int = 4, folder: Path) -> list[str]:
    """Load the data on all ranks at once; returns the fingerprint that each rank has, or its error message.

    Rank 0's output is in the folder's output-0.
    """
    from src.world import world as distributed

    def work() -> str:
        with distributed.join(schema.Train(timeout_seconds=TIMEOUT)) as world:
            try:
                return data.load(settings(root, *mirrors), world, print).fingerprint
            except UserError as error:
                return str(error)

    job = fork(world_size, work, folder)
    assert not any(job.codes), job.output
    return [str(value) for value in job.values]


@pytest.mark.parametrize("way", ["", pytest.param("slow", marks=pytest.mark.slow(seconds=16))])
def test_four_ranks_fetch_each_file_once(way: str, packed: Path, tmp_path: Path) -> None:
    with mirror(packed, way) as (url, asked):
        found = start(tmp_path / "root", url, folder=tmp_path)
    assert sorted(asked) == sorted(f"{name}.gz" for name in idx.FILES)
    expected = data.load(settings(tmp_path / "root"), World(), print)
    assert found == [expected.fingerprint] * 4
    assert len(expected.train) == 300
    assert not list((tmp_path / "root").rglob("*.part"))
    said = (tmp_path / "output-0").read_text()
    assert f"fetching {idx.FILES[0]}.gz (0.2 MB) from {url}\n" in said
    if way == "slow":
        assert re.search(rf"^fetching {idx.FILES[0]}.gz: 0.\d of 0.2 MB$", said, re.MULTILINE)


def test_a_full_disk_is_not_reported_as_a_mirror_failure(packed: Path, tmp_path: Path) -> None:
    """A full disk must not make the job train on the rendered digits instead."""

    def work() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        with pytest.raises(UserError) as error:
            data.load(settings(tmp_path / "root", str(packed), fallback="digits"), World(), print)
        return str(error.value)

    (said,) = fork(1, work, tmp_path).values
    assert said == (
        f"data.root: {tmp_path / 'root' / 'KMNIST' / 'raw'} cannot be written (File too large); "
        "the limit of a file's size is reached: ulimit -f unlimited, or name another folder with data.root="
    )
    assert not list((tmp_path / "root").rglob("*ubyte*"))


def test_a_truncated_download_falls_back_to_the_next_mirror(packed: Path, tmp_path: Path) -> None:
    with mirror(packed, "truncated") as (bad, _), mirror(packed) as (good, asked):
        found = start(tmp_path / "root", bad, good, folder=tmp_path)
    assert len(set(found)) == 1
    assert len(found[0]) == 64
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("way", "expected"), [("truncated", "is damaged (MD5 "), ("503", "Service Unavailable"), ("nowhere", "refused")]
)
def test_no_good_mirror_is_one_clear_error(way: str, expected: str, packed: Path, tmp_path: Path) -> None:
    with mirror(packed, way) as (url, _):
        found = start(tmp_path / "root", NOWHERE if way == "nowhere" else url, folder=tmp_path)
    assert len(set(found)) == 1
    assert expected in found[0]
    for name in idx.FILES:
        assert name in found[0]
        assert not (tmp_path / "root" / "KMNIST" / "raw" / name).exists()
    assert str(tmp_path / "root" / "KMNIST" / "raw") in found[0]
    assert not list((tmp_path / "root").rglob("*.part"))


def test_a_damaged_download_is_fetched_again(packed: Path, tmp_path: Path) -> None:
    raw = tmp_path / "root" / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / f"{idx.FILES[0]}.gz").write_bytes(b"half")
    with mirror(packed) as (url, asked):
        found = start(tmp_path / "root", url, folder=tmp_path, world_size=1)
    assert len(found[0]) == 64
    assert len(asked) == 4
    assert (raw / f"{idx.FILES[0]}.gz").read_bytes() == b"half"


def test_packed_files_in_the_raw_folder_are_unpacked(packed: Path, tmp_path: Path) -> None:
    raw = tmp_path / "root" / "KMNIST" / "raw"
    raw.parent.mkdir(parents=True)
    packed.rename(raw)
    assert len(start(tmp_path / "root", folder=tmp_path, world_size=1)[0]) == 64


def test_a_complete_read_only_folder_works(packed: Path, tmp_path: Path) -> None:
    data.load(settings(tmp_path / "root", str(packed)), World(), print)
    raw = tmp_path / "root" / "KMNIST" / "raw"
    (raw / ".lock").unlink(missing_ok=True)
    raw.chmod(0o555)
    assert len(data.load(settings(tmp_path / "root"), World(), print).test) == 100
    assert not (raw / ".lock").exists()


def test_a_fetched_file_that_is_altered_later_is_named(packed: Path, tmp_path: Path) -> None:
    chosen = settings(tmp_path / "root", str(packed))
    data.load(chosen, World(), print)
    file = tmp_path / "root" / "KMNIST" / "raw" / idx.FILES[0]
    before = download.sha256(file)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError) as error:
        data.load(chosen, World(), print)
    for part in (str(file), f"expected {before}", download.sha256(file)):
        assert part in str(error.value)
    assert file.read_bytes().endswith(b"?")


def test_a_slow_disk_is_said(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data.load(settings(tmp_path / "root", str(packed)), World(), print)
    raw = tmp_path / "root" / "KMNIST" / "raw"
    said: list[str] = []
    monkeypatch.setattr(download, "SLOW_SECONDS", -1.0)
    download.verify(raw, idx.FILES, {}, said.append)
    assert said[0] == f"checking the files in {raw}: 0.2 MB so far"


def test_the_password_of_a_mirror_is_used_and_nowhere_shown(packed: Path, tmp_path: Path) -> None:
    with mirror(packed, "private") as (url, asked):
        secret = url.replace("://", "://me:hunter2@") + "/?token=hunter2"
        found = start(tmp_path / "root", secret, folder=tmp_path)
        assert len(set(found)) == 1
        assert len(found[0]) == 64, found[0]
        wrong = start(tmp_path / "other", secret.replace("me:", "you:"), folder=tmp_path)
    assert "401 Unauthorized" in wrong[0]
    assert len(asked) > 4
    said = (tmp_path / "output-0").read_text()
    assert "hunter2" not in said + wrong[0]
    assert "://***@127.0.0.1" in wrong[0]


def test_no_file_of_a_run_holds_a_password_of_a_mirror(packed: Path, tmp_path: Path) -> None:
    """W&B's offline files, checkpoints and the report neither; the resumed run takes it from its own command line."""
    root = f"data.root={tmp_path / 'root'}"
    arguments = ("data.name=kmnist", root, "train.epochs=1", "track.wandb=offline", "run.name=r")
    with mirror(packed, "private") as (url, _):
        secret = url.replace("://", "://me:hunter2@") + "/?token=hunter2"
        job = good_job(2, tmp_path, *arguments, f"data.mirrors=[{secret}]", "track.notes=ask http://me:hunter2@host/")
        shutil.rmtree(tmp_path / "root")
        again = good_job(1, tmp_path, *arguments, f"data.mirrors=[{secret}]", "train.epochs=2")
    assert "fetching" in again.output
    assert "resumed at step 5" in again.output
    assert "hunter2" not in job.output + again.output
    files = [file for file in job.run.rglob("*") if file.is_file()]
    assert len(files) > 12
    assert [file for file in files if b"hunter2" in file.read_bytes()] == []
    assert "***@127.0.0.1" in (job.run / "config.yaml").read_text()
    recorded = (
        "data.fallback=none",
        "train.epochs=3",
        f"config={job.run / 'config.yaml'}",
        f"data.root={tmp_path / 'other'}",
    )
    lost = run_job(1, tmp_path, *recorded)
    assert "its password is not kept with a run: give data.mirrors= again" in lost.output
