"""checkpoint.mirror: a run goes on from an object store on an empty disk, whatever was killed, refused or cut."""

import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from src.run import jsonl, mirror, seal, store
from src.run.layout import newest_first, read_status
from tests.helpers.ranks import Forked, Job, run_job, start_job
from tests.helpers.s3_server import BUCKET, Server, Way, find_objects

SETTINGS = ("data.name=idx", "train.epochs=4", "train.sync=bitwise", "log.every=5", "run.name=r")


def job(small: str, disk: Path, url: str, *settings: str, ranks: int = 1, way: Way | None = None) -> Job:
    """A short bitwise run on a disk of its own, mirrored; 64 steps in 4 epochs."""
    return started(small, disk, url, *settings, ranks=ranks, way=way).wait()


def started(small: str, disk: Path, url: str, *settings: str, ranks: int = 1, way: Way | None = None) -> Forked:
    chosen = (*SETTINGS, f"data.root={small}", *([f"checkpoint.mirror={url}"] if url else []), *settings)
    return start_job(ranks, disk, *chosen, environment=way.environment if way else None)


def good(*arguments: Any, **named: Any) -> Job:
    done = job(*arguments, **named)
    assert not any(done.codes), done.output
    return done


@pytest.fixture
def plain(small: str, tmp_path: Path) -> Path:
    """The same run without a mirror."""
    return good(small, tmp_path / "plain", "").run


def check_same(run: Path, plain: Path) -> None:
    """The run has the weights, and the lines of metrics.jsonl, of the unbroken one."""
    assert read_status(run)["weights_sha256"] == read_status(plain)["weights_sha256"]
    lines = [[(line["kind"], line["step"]) for line in jsonl.read(path / "metrics.jsonl")] for path in (run, plain)]
    assert lines[0] == lines[1]


def latest(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "r" / "latest.json").read_text()))


def warnings(done: Job) -> list[str]:
    return [line for line in done.output.splitlines() if line.startswith("warning: ")]


def test_an_empty_disk_goes_on_from_the_mirror_on_another_number_of_ranks(
    small: str, tmp_path: Path, plain: Path
) -> None:
    there = tmp_path / "mirror"
    url = f"file://{there}"
    good(small, tmp_path / "a", url, "train.epochs=2", ranks=2)
    again = good(small, tmp_path / "b", url, ranks=3)
    assert f"mirror   {url}/r: brought back step 32\n" in again.output
    assert "(resumed at step 32, 2 ranks before)" in again.output
    check_same(again.run, plain)
    assert warnings(again) == []
    events = [event["event"] for event in jsonl.read(again.run / "events.jsonl")]
    assert (events[0], events.count("start"), events.count("resume"), events.count("finish")) == ("start", 1, 1, 2)

    finished = good(small, tmp_path / "c", url)
    assert finished.output.endswith(
        f"{tmp_path}/c/runs/r: is finished; train.epochs= prolongs it, checkpoint.resume=never repeats it\n"
    )
    assert (tmp_path / "c" / "runs" / "r" / "report.html").exists()
    assert not list(tmp_path.rglob("*.part"))


def test_a_command_with_other_settings_is_refused_and_leaves_nothing(small: str, tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'mirror'}"
    good(small, tmp_path / "a", url, "train.epochs=1")
    refused = job(small, tmp_path / "b", url, "optim.lr=0.5", ranks=2)
    assert refused.codes == [2, 2]
    assert "was started with another model or other settings (optim.lr 0.01 -> 0.5)" in refused.output
    assert [file.name for file in (tmp_path / "b" / "runs" / "r").iterdir()] == ["lock"]


def test_the_best_is_not_sent_twice_and_what_is_old_goes(small: str, tmp_path: Path) -> None:
    there = tmp_path / "mirror"
    done = good(small, tmp_path, f"file://{there}", "checkpoint.keep=2", "checkpoint.every_steps=5", "optim.lr=1e-9")
    known = latest(there)
    kept = sorted(file.name for file in (there / "r" / known["id"] / "checkpoints").iterdir())
    assert kept == sorted(known["checkpoints"]), "and no best.pt beside them"
    assert "step-00000064.pt" in kept
    assert known["best"] in kept
    assert known["best_sha256"] == seal.of(done.run / "checkpoints" / "best.pt")
    assert len(kept) <= 3, "two, and the best"


def test_resume_never_begins_a_run_of_its_own_in_the_mirror(small: str, tmp_path: Path) -> None:
    there = tmp_path / "mirror"
    url = f"file://{there}"
    good(small, tmp_path / "a", url, "train.epochs=3")
    first = latest(there)
    before = {file: file.read_bytes() for file in (there / "r" / first["id"]).rglob("*") if file.is_file()}
    for disk in ("a", "b"):  # with the earlier run on the disk, and without
        good(small, tmp_path / disk, url, "train.epochs=1", "checkpoint.resume=never", "optim.lr=0.5")
        assert latest(there)["id"] != first["id"]
        assert list(latest(there)["checkpoints"]) == ["step-00000016.pt"]
    assert {file: file.read_bytes() for file in before} == before
    again = good(small, tmp_path / "c", url, "train.epochs=1", "optim.lr=0.5")
    assert "brought back step 16\n" in again.output


def test_of_disk_and_mirror_the_newest_is_taken(small: str, tmp_path: Path, plain: Path) -> None:
    url = f"file://{tmp_path / 'mirror'}"
    good(small, tmp_path / "a", url, "train.epochs=1")
    shutil.copytree(tmp_path / "a", tmp_path / "behind")
    good(small, tmp_path / "b", url, "train.epochs=2")
    taken = good(small, tmp_path / "behind", url, "train.epochs=3")
    assert "brought back step 32 (step 16 is on this disk)" in taken.output
    assert "(resumed at step 32" in taken.output

    good(small, tmp_path / "behind", "")  # ahead of its mirror now
    check_same(tmp_path / "behind" / "runs" / "r", plain)
    assert latest(tmp_path / "mirror")["checkpoints"].keys().isdisjoint({"step-00000064.pt"})
    for _ in range(2):  # a finished run is sent too, once
        ahead = good(small, tmp_path / "behind", url)
        assert (ahead.output.count("\n"), "is finished" in ahead.output) == (1, True)
        assert next(iter(latest(tmp_path / "mirror")["checkpoints"])) == "step-00000064.pt"
    assert len(list((tmp_path / "mirror" / "r").iterdir())) == 2, "one run, and latest.json"


def test_another_run_of_this_name_is_neither_taken_nor_overwritten(small: str, tmp_path: Path) -> None:
    there = tmp_path / "mirror"
    url = f"file://{there}"
    good(small, tmp_path / "a", url, "train.epochs=2")
    first = latest(there)
    good(small, tmp_path / "b", "", "train.epochs=1")
    other = good(small, tmp_path / "b", url, "train.epochs=1", "train.max_steps=20")
    again = good(small, tmp_path / "b", url, "train.epochs=2", "train.max_steps=20")
    assert "(resumed at step 16" in again.output, other.output
    (warning,) = warnings(again)
    assert "/r: holds another run of this name, at step 32; this disk's goes on at step 16" in warning
    assert latest(there) == first
    good(small, tmp_path / "b", url, "train.epochs=3")
    assert latest(there)["id"] != first["id"], "it is further now"
    assert list((there / "r" / first["id"] / "checkpoints").iterdir())


def test_a_damaged_checkpoint_in_the_mirror_is_passed_over(small: str, tmp_path: Path, plain: Path) -> None:
    there = tmp_path / "mirror"
    url = f"file://{there}"
    good(small, tmp_path / "a", url, "train.epochs=3")
    folder = there / "r" / latest(there)["id"] / "checkpoints"
    newest = newest_first(folder)[0]
    newest.write_bytes(newest.read_bytes()[:-100])
    again = good(small, tmp_path / "b", url)
    assert "brought back step 32\n" in again.output
    assert warnings(again)[0].endswith(": step-00000048.pt is not what was written; looking for the one before")
    check_same(again.run, plain)
    assert seal.is_whole(newest), "it was sent again"

    for file in newest_first(folder):
        file.unlink()
    anew = good(small, tmp_path / "c", url)
    assert "no good checkpoint left" in warnings(anew)[-1]
    assert "r (new)" in anew.output
    check_same(anew.run, plain)
    assert len(latest(there)["checkpoints"]) == 3


@pytest.mark.slow(seconds=10)
def test_of_two_jobs_that_write_a_run_the_older_one_leaves_the_mirror(small: str, tmp_path: Path) -> None:
    """A machine that was taken for lost, and goes on."""
    there = tmp_path / "mirror"
    url = f"file://{there}"
    rare = ("checkpoint.every_epochs=0", "optim.lr=1e-9")  # only the first epoch is the best so far
    lost = started(small, tmp_path / "a", url, *rare, "train.epochs=100000")
    until(lambda: (there / "r" / "latest.json").exists(), lost)
    time.sleep(1)
    os.kill(lost.pids[0], signal.SIGSTOP)
    newer = good(small, tmp_path / "b", url, *rare, "train.max_steps=1600", "train.epochs=100000")
    assert warnings(newer) == []
    os.kill(lost.pids[0], signal.SIGCONT)
    (tmp_path / "a" / "runs" / "r" / "STOP").touch()
    done = lost.wait()
    (warning,) = warnings(done)
    assert "writes this run too; this one mirrors it no more" in warning
    assert "step-00001600.pt" in latest(there)["checkpoints"]


def until(is_so: Any, running: Forked) -> None:
    deadline = time.monotonic() + 240
    while not is_so():
        assert running.runs(), running.wait().output
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pytest.importorskip("moto")
    made = Server()
    yield made
    made.stop()


@pytest.fixture
def way(server: Server) -> Iterator[Way]:
    made = Way(server)
    yield made
    made.down()


@pytest.mark.slow(seconds=20)
def test_a_job_that_is_killed_in_the_middle_of_an_upload(
    server: Server, way: Way, small: str, tmp_path: Path, plain: Path
) -> None:
    url = f"s3://{BUCKET}/killed"
    way.hold = "step-00000048.pt"
    running = started(small, tmp_path / "a", url, "train.epochs=3", ranks=2, way=way)
    until(way.held.is_set, running)
    os.kill(running.pids[0], signal.SIGKILL)
    running.wait()
    way.hold = ""
    assert not [name for name in find_objects(server, "killed/r/") if "step-00000048" in name]
    again = good(small, tmp_path / "b", url, ranks=3, way=way)
    assert re.search(
        rf"^mirror   {url}/r: brought back step (16|32)$", again.output, re.MULTILINE
    )  # one may be left out
    check_same(again.run, plain)
    finished = good(small, tmp_path / "c", url, way=way)
    assert "is finished" in finished.output


@pytest.mark.slow(seconds=20)
def test_a_store_that_is_down_for_a_while(server: Server, way: Way, small: str, tmp_path: Path, plain: Path) -> None:
    url = f"s3://{BUCKET}/down"
    way.down()
    begun = started(small, tmp_path / "a", url, "train.epochs=100000", way=way)
    until(lambda: read_status(tmp_path / "a" / "runs" / "r").get("step", 0) >= 64, begun)
    way.up()
    until(lambda: find_objects(server, "down/r/latest.json"), begun)
    way.down()
    time.sleep(1)
    way.up()
    (tmp_path / "a" / "runs" / "r" / "STOP").touch()
    stopped = begun.wait()
    assert stopped.codes == [0]
    told = warnings(stopped)
    assert "training goes on from this disk" in told[0]
    assert 1 <= len(told) <= 3, told
    assert all(f"{url}/r: " in line for line in told)
    step = read_status(tmp_path / "a" / "runs" / "r")["step"]
    again = good(small, tmp_path / "b", url, "train.epochs=100000", f"train.max_steps={step + 1}", way=way)
    assert f"brought back step {step}\n" in again.output


@pytest.mark.slow(seconds=10)
def test_no_right_is_one_warning(server: Server, way: Way, small: str, tmp_path: Path, plain: Path) -> None:
    server.refuse_everybody()
    try:
        done = good(small, tmp_path / "a", f"s3://{BUCKET}/refused", ranks=2, way=way)
    finally:
        server.refuse_everybody(False)
    check_same(done.run, plain)
    told = warnings(done)
    assert len(told) == 2, told  # at the start, and at the end
    assert "secret" not in done.output
    sent = good(small, tmp_path / "a", f"s3://{BUCKET}/refused", "train.epochs=5", way=way)
    assert warnings(sent) == []
    assert find_objects(server, "refused/r/latest.json")


def test_a_store_that_never_answers_costs_seconds(
    small: str, tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setattr(store, "SILENT_SECONDS", 1)
    monkeypatch.setattr(store, "TRIES", 1)
    monkeypatch.setattr(mirror, "END_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        chosen = (*SETTINGS, f"data.root={small}", f"checkpoint.mirror=s3://{BUCKET}/x")
        done = run_job(1, tmp_path, *chosen, environment=keys | {"AWS_ENDPOINT_URL": address})
    assert done.codes == [0], done.output
    check_same(done.run, plain)
    assert "Read timeout on endpoint; training goes on from this disk" in warnings(done)[0]
    assert "it holds no checkpoint, this disk step-00000064.pt" in warnings(done)[-1]
