"""The uploader with the real wandb package, against a server on loopback that works or fails."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from src import train as train_room
from src.run import jsonl, layout, tables
from src.run.layout import read_status
from src.tracking import wandb_uploader
from tests.helpers.commands import Command
from tests.helpers.ranks import ROOT, good_job, torchrun
from tests.helpers.wandb_runs import environment, expected, identity, offline, pictured, push, received, start, train
from tests.helpers.wandb_server import TrackedRun, WandbServer, core_of

FIXED = ("model.name=logistic", "data.name=idx", "run.name=x", "train.epochs=1")


def table(tracked: TrackedRun, name: str) -> Any:
    return json.loads(tracked.files[tracked.summary[name]["path"]])["data"]


def last_confusion(run: Path) -> list[list[int]]:
    confusion: list[list[int]] = tables.read(run, "confusion")
    return confusion


def test_an_online_run_arrives_whole_and_once(small: str, tmp_path: Path) -> None:
    with WandbServer() as server:
        settings = ["data.name=idx", f"data.root={small}", f"run.root={tmp_path / 'runs'}", "run.name=x", "log.every=4"]
        done = subprocess.run(  # in a Python of its own, as a user starts it; the other tests fork
            [sys.executable, "-m", "src.train", *settings, "train.epochs=3", "track.tags=[a,b]", "track.group=g"],
            cwd=ROOT,
            env=environment(tmp_path, **server.environment),
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        assert "W&B online" in done.stdout
        assert done.stderr == ""
        run = tmp_path / "runs" / "x"
        (tracked,) = server.runs.values()
        assert list(server.runs) == [identity(run)]
        assert received(tracked.history) == expected(run)
        assert tracked.config["train"]["epochs"] == 3
        assert tracked.config["provenance"]["world_size"] == 1
        assert (tracked.name, tracked.project, tracked.tags) == ("x", "distributed-training-job", ["a", "b"])
        status = read_status(run)
        assert {name: tracked.summary[name] for name in status} == status
        assert pictured(tracked) == {"templates": 10, "confusion": 10, "most_wrong": 20}
        assert table(tracked, "confusion") == [[truth, *row] for truth, row in enumerate(last_confusion(run))]
        assert tracked.axis == "global_step"
        assert tracked.exit_code == 0
        model = next(artifact for artifact in tracked.artifacts if artifact.kind == "model")
        assert model.files["best.pt"] == (run / "checkpoints" / "best.pt").read_bytes()
        assert model.metadata["weights_sha256"] == status["weights_sha256"]
        assert model.committed
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert [file for file in files if server.environment["WANDB_API_KEY"].encode() in file.read_bytes()] == []
        page = next(artifact for artifact in tracked.artifacts if artifact.kind == "report")
        assert page.files["report.html"] == (run / "report.html").read_bytes()


@pytest.mark.slow(seconds=12)
def test_a_stopped_run_resumes_under_its_id(small: str, tmp_path: Path) -> None:
    with WandbServer() as server:
        theirs = {
            "PROJECT": "theirs",
            "ENTITY": "tester",
            "RUN_GROUP": "g",
            "NAME": "n",
            "NOTES": "said",
            "TAGS": "c,d",
        }
        variables = server.environment | {f"WANDB_{name}": value for name, value in theirs.items()}
        train(small, tmp_path, "train.epochs=1", **variables)
        train(small, tmp_path, "train.epochs=4", **variables)
        (tracked,) = server.runs.values()
        said = (tracked.project, tracked.entity, tracked.group, tracked.name, tracked.notes, tracked.tags)
        assert said == ("theirs", "tester", "g", "n", "said", ["c", "d"])
        assert tracked.resumed >= 1
        assert received(tracked.history) == expected(tmp_path / "runs" / "x")


@pytest.mark.slow(seconds=18)
def test_a_killed_run_of_four_ranks_arrives_once_and_whole(small: str, tmp_path: Path) -> None:
    fixed = ("data.name=idx", f"data.root={small}", f"run.root={tmp_path / 'runs'}", "run.name=x", "log.every=4")
    long = (*fixed, "train.epochs=400", "track.wandb=online", "checkpoint.every_steps=50", "train.sync=bitwise")
    run = tmp_path / "runs" / "x"
    with WandbServer() as server:
        variables = environment(tmp_path, **server.environment)
        job = torchrun(4, *long, environment=variables, start_new_session=True)  # kill -9 of all of them
        while len(list(jsonl.read(run / "metrics.jsonl"))) < 200 and job.poll() is None:
            time.sleep(0.05)
        time.sleep(wandb_uploader.LOOK_SECONDS)
        os.killpg(job.pid, signal.SIGKILL)
        job.communicate()
        assert len(server.runs) == 1
        before = len(expected(run))
        settings = [setting.replace("epochs=400", "epochs=120") for setting in long]
        good_job(2, tmp_path, *settings, environment=variables)
        (tracked,) = server.runs.values()
        assert before > 100
        numbers = [line["line"] for line in received(tracked.history)]
        assert numbers == sorted(set(numbers))
        assert set(numbers) >= {wandb_uploader.number(line) for line in jsonl.read(run / "metrics.jsonl")}


def test_offline_files_hold_every_line_and_no_request_is_sent(small: str, tmp_path: Path) -> None:
    with WandbServer() as server:
        nobody = {"WANDB_BASE_URL": server.url, "HTTP_PROXY": server.url, "HTTPS_PROXY": server.url}
        done = train(small, tmp_path, **nobody)
        assert "W&B offline" in done.stdout
        assert done.stderr == ""
        run = tmp_path / "runs" / "x"
        assert received(offline(run)) == expected(run)
        train(small, tmp_path, "train.epochs=5", **nobody)
        assert len(list((run / "wandb").glob("offline-run-*"))) == 2
        assert received(offline(run)) == expected(run)
        assert server.requests == 0


def test_two_trials_of_the_same_values_at_the_same_moment_are_two_runs(small: str, tmp_path: Path) -> None:
    settings = ["model.name=logistic", "data.name=idx", f"data.root={small}", f"run.root={tmp_path / 'runs'}"]
    with WandbServer() as server:
        jobs = []
        for trial in ("t1", "t2"):
            variables = {"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": trial, **server.environment}
            folder = environment(tmp_path, **variables)
            jobs.append(Command(train_room.main, [*settings, "train.epochs=2"], folder, tmp_path / trial))
        done = [job.wait() for job in jobs]
        assert [job.returncode for job in done] == [0, 0], [(job.stdout, job.stderr) for job in done]
        assert set(server.runs) == {"t1", "t2"}
        for run in (tmp_path / "runs").iterdir():
            assert received(server.runs[run.name.rpartition("-")[2]].history) == expected(run)


def test_nothing_of_w_b_is_printed_or_left_where_there_is_no_home(small: str, tmp_path: Path) -> None:
    """Nor is a service of a parent process asked that is gone."""
    folder = tmp_path / "t"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "src.train", *FIXED, f"data.root={small}", f"run.root={tmp_path / 'runs'}"],
        cwd=ROOT,
        env={name: value for name, value in environment(tmp_path).items() if name != "HOME"}
        | {"TMPDIR": str(folder), "WANDB_SERVICE": "3-1-unix-" + str(tmp_path / "gone")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(folder.iterdir()) == []
    assert received(offline(tmp_path / "runs" / "x")) == expected(tmp_path / "runs" / "x")
    assert not (ROOT / ".wandb_cache").exists()


def test_online_without_a_key_tracks_offline(small: str, tmp_path: Path) -> None:
    done = train(small, tmp_path, "track.wandb=online", "train.epochs=1", WANDB_SILENT="false")
    assert done.stderr.count("W&B: no key is set up (`wandb login`, or WANDB_API_KEY); tracking offline") == 1
    assert received(offline(tmp_path / "runs" / "x")) == expected(tmp_path / "runs" / "x")


@pytest.mark.parametrize("mood", ["error", "hang", "reject", "gone"])
def test_a_failing_server_is_a_warning_and_the_run_is_tracked_offline(
    mood: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_uploader, "INIT_SECONDS", 2)
    run = tmp_path / "runs" / "x"
    with WandbServer() as server:
        server.mood = mood
        done = train(small, tmp_path, "track.timeout_seconds=90", **server.environment)
    assert done.returncode == 0, done.stderr
    assert read_status(run)["state"] == "finished"
    assert done.stderr.startswith("warning: W&B: ")
    assert done.stderr.endswith(f"; tracking offline, `python -m src.track push {run}` sends it\n")
    assert done.stderr.count("\n") == 1
    assert received(offline(run)) == expected(run)


@pytest.mark.parametrize(
    "trouble",
    ["core killed", *(pytest.param(mood, marks=pytest.mark.slow(seconds=20)) for mood in ("error", "gone"))],
)
def test_what_breaks_in_the_middle_is_repaired_by_push(
    trouble: str, small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_uploader, "LOOK_SECONDS", 0.1)
    run = tmp_path / "runs" / "x"
    with WandbServer() as server:
        settings = ("train.epochs=1000000", "track.timeout_seconds=3")
        job = start(small, tmp_path, *settings, **server.environment)
        while not any(tracked.history for tracked in server.runs.values()) and job.runs():
            time.sleep(0.05)
        if trouble == "core killed":
            os.kill(core_of(job.pid), signal.SIGKILL)
        else:
            server.mood = trouble
        before = len(expected(run))
        while len(expected(run)) < before + 50 and job.runs():
            time.sleep(0.05)
        (run / layout.STOP).touch()
        done = job.wait()
        assert done.returncode == 0, done.stderr
        assert read_status(run)["state"] == "preempted"
        assert done.stderr.count("warning: ") == 1
        assert f"`python -m src.track push {run}` sends it" in done.stderr
        assert "Traceback" not in done.stderr
        server.mood = "well"
        assert "lines sent" in push(run, tmp_path, **server.environment).stdout
        (tracked,) = server.runs.values()
        assert received(tracked.history) == expected(run)


@pytest.mark.slow(seconds=12)
def test_a_server_that_vanishes_at_the_end_is_repaired_by_push(small: str, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "x"
    with WandbServer() as server:
        server.mood = "leave"
        done = train(small, tmp_path, "track.timeout_seconds=5", **server.environment)
        assert (done.returncode, done.stderr.count("warning: ")) == (0, 1), done.stderr
        assert not any(artifact.committed for artifact in server.artifacts)
        server.mood = "well"
        assert push(run, tmp_path, **server.environment).returncode == 0
        (tracked,) = server.runs.values()
        assert received(tracked.history) == expected(run)
        assert [artifact.kind for artifact in tracked.artifacts if artifact.committed][:1] == ["model"]
        assert pictured(tracked) == {"templates": 10, "confusion": 10, "most_wrong": 20}


BROKEN = {
    "raise ImportError('gone')": "the package wandb is not installed",
    "raise RuntimeError('broken')": "W&B: broken",
    "import time; time.sleep(90)": "not done within track.timeout_seconds=1",
}


@pytest.mark.parametrize(("body", "said"), BROKEN.items())
def test_a_broken_or_missing_wandb_costs_a_warning(body: str, said: str, small: str, tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text(body)
    done = train(small, tmp_path, "track.timeout_seconds=1", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0
    assert done.stderr.count("warning: ") == 1
    assert said in done.stderr


@pytest.mark.parametrize("key", ["line", "record"])
def test_runs_of_either_key_are_continued(key: str) -> None:
    """Older runs have the number of a line under another key; their lines are not sent twice."""
    assert wandb_uploader._last_line({key: 28, "global_step": 9}) == 28
    assert wandb_uploader._last_line({}) == -1


def test_a_line_becomes_metrics() -> None:
    line = {"kind": "test", "epoch": 2, "step": 9, "samples_seen": 80, "accuracy": 0.5, "kinds": [[1]]}
    assert wandb_uploader.as_metrics(line) == {
        "line": 38,
        "global_step": 9,
        "epoch": 2,
        "samples_seen": 80,
        "test/accuracy": 0.5,
    }
    line = {
        "kind": "train",
        "epoch": 2,
        "step": 9,
        "samples_seen": 80,
        "loss": 1.5,
        "lr": 0.1,
        "samples_per_second": 7.0,
    }
    assert wandb_uploader.as_metrics(line) == {
        "line": 36,
        "global_step": 9,
        "epoch": 2,
        "samples_seen": 80,
        "train/loss": 1.5,
        "lr": 0.1,
        "samples_per_second": 7.0,
    }
