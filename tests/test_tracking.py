"""Tracking helps and never hurts: the real wandb package against a server on loopback, well and unwell."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from src import config, lines, wandb_copy
from src.config import Track
from tests.ranks import ROOT, torchrun
from tests.wandb_server import WandbServer

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}


def environment(home: Path, **extra: str) -> dict[str, str]:
    """No key, no netrc, no W&B variable of whoever runs the tests."""
    return CLEAN | {"HOME": str(home), "OMP_NUM_THREADS": "1"} | extra


def train(small: str, home: Path, *settings: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    fixed = ["data.name=idx", f"data.root={small}", f"run.root={home / 'runs'}", "run.name=x", "log.every=4"]
    return subprocess.run(
        [sys.executable, "-m", "src.train", *fixed, "train.epochs=3", *settings],
        cwd=ROOT,
        env=environment(home, **extra),
        capture_output=True,
        text=True,
        timeout=120,
    )


def push(run: Path, home: Path, **extra: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "src.track", "push", str(run)]
    return subprocess.run(
        command, cwd=ROOT, env=environment(home, **extra), capture_output=True, text=True, timeout=120
    )


def expected(run: Path) -> list[dict[str, Any]]:
    """What W&B should have of metrics.jsonl."""
    return [wandb_copy.as_metrics(line) for line in lines.read(run / "metrics.jsonl")]


def received(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What it has, without its own columns and the pictures at the end."""
    plain = [{name: value for name, value in line.items() if not name.startswith("_")} for line in history]
    return [line for line in plain if "epoch" in line]


def identity(run: Path) -> str:
    return (run / "wandb" / "id").read_text().strip()


def offline(run: Path) -> list[dict[str, Any]]:
    """The history in all offline pieces, in order."""
    found = []
    for piece in sorted((run / "wandb").glob("offline-run-*/run-*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(piece)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        records = [json.loads(line) for line in done.stdout.splitlines()]
        found += [record["history"]["item"] for record in records if record["type"] == "history"]
    return found


def test_an_online_run_arrives_whole_and_once(small: str, tmp_path: Path) -> None:
    with WandbServer() as server:
        done = train(small, tmp_path, "track.tags=[a,b]", "track.group=g", **server.environment)
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
        status = json.loads((run / "status.json").read_text())
        assert {name: tracked.summary[name] for name in status} == status
        assert {"templates", "most_wrong", "confusion"} <= tracked.summary.keys()
        assert tracked.exit_code == 0
        model = next(artifact for artifact in tracked.artifacts if artifact.kind == "model")
        assert model.files["best.pt"] == (run / "checkpoints" / "best.pt").read_bytes()
        assert model.metadata["weights_sha256"] == status["weights_sha256"]
        assert model.committed


def test_the_same_run_goes_on_after_a_stop(small: str, tmp_path: Path) -> None:
    with WandbServer() as server:
        train(small, tmp_path, "train.epochs=1", **server.environment)
        train(small, tmp_path, "train.epochs=4", **server.environment)
        (tracked,) = server.runs.values()
        assert tracked.resumed >= 1
        assert received(tracked.history) == expected(tmp_path / "runs" / "x")


def test_four_ranks_make_one_run_and_a_kill_loses_and_doubles_nothing(small: str, tmp_path: Path) -> None:
    fixed = ("data.name=idx", f"data.root={small}", f"run.root={tmp_path / 'runs'}", "run.name=x", "log.every=4")
    long = (*fixed, "train.epochs=400", "track.wandb=online", "checkpoint.every_steps=50", "train.sync=bitwise")
    run = tmp_path / "runs" / "x"
    with WandbServer() as server:
        variables = environment(tmp_path, **server.environment)
        job = torchrun(4, *long, environment=variables, start_new_session=True)
        while len(list(lines.read(run / "metrics.jsonl"))) < 200 and job.poll() is None:
            time.sleep(0.05)
        time.sleep(wandb_copy.LOOK_SECONDS)
        os.killpg(job.pid, signal.SIGKILL)
        job.communicate()
        assert len(server.runs) == 1
        before = len(expected(run))
        settings = [setting.replace("epochs=400", "epochs=120") for setting in long]
        done = torchrun(2, *settings, environment=variables).communicate(timeout=120)[0]
        assert "result" in done, done
        (tracked,) = server.runs.values()
        assert before > 100
        numbers = [line["record"] for line in received(tracked.history)]
        assert numbers == sorted(set(numbers))
        assert set(numbers) >= {wandb_copy.number(line) for line in lines.read(run / "metrics.jsonl")}


def test_offline_files_hold_what_the_record_holds(small: str, tmp_path: Path) -> None:
    done = train(small, tmp_path)
    assert "W&B offline" in done.stdout
    assert done.stderr == ""
    run = tmp_path / "runs" / "x"
    assert received(offline(run)) == expected(run)
    train(small, tmp_path, "train.epochs=5")
    assert len(list((run / "wandb").glob("offline-run-*"))) == 2
    assert received(offline(run)) == expected(run)


def test_push_sends_an_offline_run_once(small: str, tmp_path: Path) -> None:
    train(small, tmp_path)
    train(small, tmp_path, "train.epochs=5")
    run = tmp_path / "runs" / "x"
    with WandbServer() as server:
        sent = len(expected(run))
        assert f"{sent} lines sent" in push(run, tmp_path, **server.environment).stdout
        assert "0 lines sent" in push(run, tmp_path, **server.environment).stdout
        (tracked,) = server.runs.values()
        assert list(server.runs) == [identity(run)]
        assert received(tracked.history) == expected(run)
        assert [artifact.kind for artifact in tracked.artifacts].count("model") == 1
        assert {"templates", "most_wrong", "confusion"} <= tracked.summary.keys()


def test_push_without_a_key_or_a_run_says_so(small: str, tmp_path: Path) -> None:
    train(small, tmp_path, "track.wandb=disabled")
    done = push(tmp_path / "runs" / "x", tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "error: no W&B key is set up: run `wandb login`, or set WANDB_API_KEY\n",
    )
    done = push(tmp_path, tmp_path, WANDB_API_KEY="0" * 40)
    assert done.returncode == 2
    assert "is no run" in done.stderr


@pytest.mark.parametrize("mood", ["error", "hang", "reject"])
def test_a_server_that_is_unwell_costs_a_warning(mood: str, small: str, tmp_path: Path) -> None:
    with WandbServer() as server:
        server.mood = mood
        done = train(small, tmp_path, "track.timeout_seconds=5", **server.environment)
    run = tmp_path / "runs" / "x"
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    assert 1 <= done.stderr.count("W&B") <= 2, done.stderr
    assert "Traceback" not in done.stderr


def test_no_server_at_all_goes_on_offline(small: str, tmp_path: Path) -> None:
    done = train(
        small, tmp_path, "track.timeout_seconds=5", WANDB_API_KEY="0" * 40, WANDB_BASE_URL="http://127.0.0.1:9"
    )
    run = tmp_path / "runs" / "x"
    assert done.returncode == 0
    assert "tracking offline" in done.stderr
    assert received(offline(run)) == expected(run)


def test_a_server_that_vanishes_is_repaired_by_push(small: str, tmp_path: Path) -> None:
    fixed = ["data.name=idx", f"data.root={small}", f"run.root={tmp_path / 'runs'}", "run.name=x", "log.every=4"]
    run = tmp_path / "runs" / "x"
    with WandbServer() as server:
        variables = environment(tmp_path, **server.environment)
        settings = [*fixed, "train.max_minutes=0.1", "train.epochs=1000000", "track.timeout_seconds=3"]
        job = subprocess.Popen(
            [sys.executable, "-m", "src.train", *settings], cwd=ROOT, env=variables, stderr=subprocess.PIPE, text=True
        )
        while not (server.runs and len(expected(run)) > 20) and job.poll() is None:
            time.sleep(0.05)
        server.mood = "error"
        _, printed = job.communicate(timeout=60)
        assert job.returncode == 0, printed
        assert "push" in printed
        server.mood = "well"
        assert "lines sent" in push(run, tmp_path, **server.environment).stdout
        (tracked,) = server.runs.values()
        assert received(tracked.history) == expected(run)


def test_a_broken_or_missing_wandb_costs_a_warning(small: str, tmp_path: Path) -> None:
    for body, said in (("raise ImportError('gone')", "not installed"), ("raise RuntimeError('broken')", "broken")):
        (tmp_path / "wandb.py").write_text(body)
        done = train(small, tmp_path, f"run.name={said[:3]}", PYTHONPATH=str(tmp_path))
        assert done.returncode == 0
        assert done.stderr.count("W&B") == 1
        assert said in done.stderr


def test_disabled_does_not_import_wandb(small: str, tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text("raise SystemExit('imported')")
    done = train(small, tmp_path, "track.wandb=disabled", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "runs" / "x" / "wandb").exists()


def test_secrets_stay_out(small: str, tmp_path: Path) -> None:
    key = "5ec4e7" * 7
    done = train(
        small, tmp_path, "data.mirrors=[https://user:hunter2@mirror.invalid/x]", WANDB_API_KEY=key, WANDB_MODE="offline"
    )
    assert done.returncode == 0, done.stderr
    files = [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    content = b"".join(file.read_bytes() for file in files) + done.stdout.encode() + done.stderr.encode()
    assert b"mirror.invalid" in content
    assert b"hunter2" not in content
    assert key.encode() not in content


def test_a_sweeps_agent_decides_the_id(small: str, tmp_path: Path) -> None:
    train(small, tmp_path, WANDB_RUN_ID="fromagent", WANDB_MODE="offline")
    assert identity(tmp_path / "runs" / "x") == "fromagent"


def test_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")] + ["NETRC"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert wandb_copy.mode(Track()) == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert wandb_copy.mode(Track()) == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_copy.mode(Track()) == "offline"
    assert wandb_copy.mode(Track(wandb="online")) == "online"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password " + "y" * 40 + "\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_copy.mode(Track()) == "online"


def test_wandb_s_variables_win_over_defaults_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert "project" not in wandb_copy.where(Track())
    assert wandb_copy.where(Track(project="mine"))["project"] == "mine"


def test_a_line_becomes_metrics() -> None:
    line = {"kind": "test", "epoch": 2, "step": 9, "samples_seen": 80, "accuracy": 0.5, "confusion": [[1]]}
    assert wandb_copy.as_metrics(line) == {
        "record": 28,
        "global_step": 9,
        "epoch": 2,
        "samples_seen": 80,
        "test/accuracy": 0.5,
    }
    assert config.without_secrets("a https://u:p@h/x b") == "a https://***@h/x b"
