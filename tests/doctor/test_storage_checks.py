"""The doctor's checks of the data set, the run directory and the disk; they leave no file behind."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from src import config
from src.data import dataset as data
from src.data import idx, image_folder, remembered
from src.doctor import examination, model_size, storage_checks
from src.doctor.findings import Finding
from src.errors import UserError
from src.fingerprint import fingerprint
from tests.helpers.namespaces import doctor_in
from tests.helpers.picture_folders import draw
from tests.helpers.plans import planned
from tests.helpers.ranks import ROOT, good_job


def asked(check: str, *arguments: str) -> Finding:
    """The finding of one check."""
    ((_, finding),) = examination.examine(planned(*arguments), [check])
    return finding


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first call: for this test alone


def test_data_that_is_whole_truncated_or_missing(small: str, tmp_path: Path) -> None:
    settings = ("data.name=idx", f"data.root={tmp_path}")
    shutil.copytree(small, tmp_path, dirs_exist_ok=True)
    assert asked("data", *settings).message.startswith("idx: 4 files in ")
    file = tmp_path / "IDX" / "raw" / idx.TEST[0]
    os.truncate(file, 1000)
    found = asked("data", *settings)
    assert found.colour == "red"
    assert f"{file}: is 1000 bytes long, its header says" in found.message + found.fix
    file.unlink()
    found = asked("data", *settings)
    assert (found.colour, found.fix) == ("red", "copy them there, or data.root=FOLDER")
    assert found.message.startswith(f"idx: {idx.TEST[0]} not in ")


def test_the_fix_for_altered_data(mnist: str, tmp_path: Path) -> None:
    shutil.copytree(mnist, tmp_path, dirs_exist_ok=True)
    with (tmp_path / "MNIST" / "raw" / idx.TEST[1]).open("r+b") as stream:
        stream.seek(100)
        stream.write(b"\x01\x02\x03\x04")
    found = asked("data", f"data.root={tmp_path}")
    assert (found.colour, found.fix) == ("red", "move it away to have it fetched again")


def test_checksums_computed_anew(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(small, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(remembered, "RACY_SECONDS", -10.0)
    settings = ("data.name=idx", f"data.root={tmp_path}")
    assert asked("data", *settings).colour == "green"
    record = tmp_path / "IDX" / "raw" / remembered.NAME
    records = json.loads(record.read_text())
    records[idx.TEST[0]][1] = "0" * 64
    record.write_text(json.dumps(records))
    assert asked("data", *settings).colour == "green", "the file is as it was, so the record is trusted"
    found = storage_checks.dataset(planned(*settings, checksums=True))
    assert (found.colour, f"{idx.TEST[0]}: not what was read before" in found.message) == ("red", True)
    assert storage_checks.dataset(planned(*settings, checksums=True)).colour == "green"


def test_a_folder_of_pictures_before_and_after_its_conversion(tmp_path: Path) -> None:
    settings = ("data.name=folder", f"data.root={draw(tmp_path)}", "data.image_size=16")
    found = asked("data", *settings)
    assert (found.colour, found.message) == (
        "yellow",
        f"folder: 39 pictures in {tmp_path} will be converted into {tmp_path}/converted/16",
    )
    assert f"python -m src.data import {tmp_path} data.image_size=16 does it" in found.fix
    assert not (tmp_path / "converted").exists()
    assert "may take" in asked("disk", *settings).message
    assert image_folder.assumed(planned(*settings).settings.data).shape == (3, 16, 16)
    load = data.prepare(planned(*settings).settings.data, print)
    assert load.name == "folder"
    found = asked("data", *settings)
    assert (found.colour, found.message) == (
        "green",
        f"folder: 39 pictures in {tmp_path}, converted in {tmp_path}/converted/16",
    )
    assert model_size.parameters(planned(*settings).settings) == 3 * (3 * 16 * 16 + 1)
    shutil.rmtree(tmp_path / "test")
    found = asked("data", *settings)
    assert (found.colour, found.message) == (
        "green",
        f"folder: 30 pictures in {tmp_path}, converted in {tmp_path}/converted/16",
    )
    shutil.rmtree(tmp_path / "converted" / "16" / "test")
    found = asked("data", *settings)
    assert found.colour == "red"
    assert "data.validation=0.1" in found.fix


@pytest.mark.usefixtures("no_network")
def test_the_data_check_downloads_nothing(tmp_path: Path) -> None:
    root = f"data.root={tmp_path / 'data'}"
    mirror = tmp_path / "mirror"
    assert asked("data", root, f"data.mirrors=[{mirror}]").colour == "yellow"
    assert "would train on rendered digits" in asked("data", root).message
    assert asked("data", root, "data.fallback=none").colour == "red"
    assert asked("data", root, "data.name=digits").colour == "green"
    mirror.mkdir()
    for name in idx.FILES:
        (mirror / f"{name}.gz").write_bytes(b"x")
    found = asked("data", root, f"data.mirrors=[{mirror}]", "data.fallback=none")
    assert (found.colour, found.message.endswith(f"will be downloaded from {mirror}")) == ("yellow", True)
    assert not (tmp_path / "data").exists()


def test_text_that_is_there_missing_or_half_there(tmp_path: Path) -> None:
    root = f"data.root={tmp_path}"
    found = asked("data", "data.name=text", root)
    assert (found.colour, found.fix) == ("yellow", "copy train.txt, test.txt there")
    assert found.message == f"text: not in {tmp_path / 'text'}: would train on rendered sums"
    found = asked("data", "data.name=text", root, "data.fallback=none")
    assert (found.colour, found.fix) == ("red", "copy train.txt, test.txt there, or data.name=sums")
    assert asked("data", "data.name=sums", root).message.startswith("sums: will be rendered into ")
    assert not list(tmp_path.iterdir())
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.txt").write_text("a text " * 100)
    found = asked("data", "data.name=text", root)
    assert (found.colour, found.message) == ("red", f"text: test.txt not in {tmp_path / 'text'}")
    (tmp_path / "text" / "test.txt").write_text("short")
    assert "test.txt: is 5 bytes long, data.block=64 needs 65 at least" in asked("data", "data.name=text", root).message
    (tmp_path / "text" / "test.txt").write_text("a text " * 100)
    assert asked("data", "data.name=text", root).message == f"text: 2 files in {tmp_path / 'text'}, undamaged"


def test_a_run_directory_that_works(tmp_path: Path) -> None:
    found = asked("run", f"run.root={tmp_path / 'new' / 'runs'}")
    assert found.colour in ("green", "yellow"), found
    assert f"mnist-{fingerprint(config.parse([]))}: a new run (" in found.message
    assert not list(tmp_path.iterdir())


def test_a_run_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = asked("run", f"run.root={tmp_path / 'file' / 'runs'}")
    assert (found.colour, found.fix) == ("red", "run.root=FOLDER")
    assert found.message.endswith(f"{tmp_path / 'file'} is a file, not a folder")
    (tmp_path / "link").symlink_to("nowhere")
    found = asked("run", f"run.root={tmp_path / 'link' / 'runs'}")
    assert found.colour == "red"
    assert found.message.endswith(f"{tmp_path / 'link'} is a link to nowhere, which is not there")
    prepare = f"mount -t tmpfs -o ro tmpfs {tmp_path}"
    (line,) = doctor_in("--mount", prepare, f"run.root={tmp_path}", "--only", "run")
    assert line["state"] == "red"
    assert line["message"].endswith("fails: Read-only file system")


def test_locks_that_do_not_lock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(storage_checks, "TRY_LOCK", "")
    found = asked("run", f"run.root={tmp_path}")
    assert found.colour == "red"
    assert f"locking in {tmp_path} fails: a second process gets the lock too" in found.message


def test_a_run_directory_in_memory_is_a_warning(tmp_path: Path) -> None:
    prepare = f"mount -t tmpfs tmpfs {tmp_path}"
    (line,) = doctor_in("--mount", prepare, f"run.root={tmp_path}", "--only", "run")
    assert line["state"] == "yellow"
    assert "(tmpfs, " in line["message"]


def test_a_run_that_is_in_use_contradicts_or_goes_on(small: str, tmp_path: Path) -> None:
    settings = ("data.name=idx", f"data.root={small}", f"run.root={tmp_path / 'runs'}", "run.name=x")
    good_job(1, tmp_path, *settings, "train.epochs=1")
    assert "x: finished at step 16, continues with a higher train.epochs=" in asked("run", *settings).message
    found = asked("run", *settings, "optim.lr=0.5")
    assert found.colour == "red"
    assert "optim.lr 0.01 -> 0.5" in found.message
    assert found.fix.startswith("give the old ones")
    code = "import sys, time, pathlib, src.run.lock as r; r.hold(pathlib.Path(sys.argv[1])); print(1, flush=True)"
    code += "; time.sleep(300)"
    command = [sys.executable, "-c", code, str(tmp_path / "runs" / "x")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        job.stdout.readline()
        found = asked("run", *settings)
        job.kill()
    assert (found.colour, found.fix) == ("red", "wait, stop it, or run.name=")
    assert found.message.endswith(f"pid {job.pid}")


def test_room_on_the_disk(tmp_path: Path) -> None:
    assert asked("disk", f"run.root={tmp_path}", f"data.root={tmp_path}").colour in ("green", "yellow")
    for folder in ("runs", "data"):
        (tmp_path / folder).mkdir()
    settings = (f"run.root={tmp_path / 'runs'}", f"data.root={tmp_path / 'data'}")
    for folder, key in (("runs", "run.root"), ("data", "data.root")):
        prepare = f"mount -t tmpfs -o size=1m tmpfs {tmp_path / folder}"
        (line,) = doctor_in("--mount", prepare, *settings, "--only", "disk")
        assert line["state"] == "red"
        assert line["message"].startswith(f"{key}: 1 MB free on ")


def test_a_mirror_that_can_be_none_is_red(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^checkpoint\.mirror=nowhere://b/p: Protocol not known: nowhere"):
        storage_checks.directory(planned(f"run.root={tmp_path}", "checkpoint.mirror=nowhere://b/p"))
