"""`python -m src.status`: the table of runs, also of killed and damaged ones."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from src import status
from src.errors import UserError
from src.run import tables
from src.run.layout import read_status
from src.run.lock import hold
from tests.helpers.commands import command
from tests.helpers.ranks import ROOT


def make(path: Path, state: str = "finished", events: tuple[dict[str, str], ...] = (), **facts: object) -> Path:
    path.mkdir(parents=True)
    content = {"state": state, "step": 7, "world_size": 2, "data": "mnist", **facts}
    (path / "status.json").write_text(json.dumps(content))
    (path / "events.jsonl").write_text("".join(json.dumps({"time": "2026-01-02T03:04:05", **e}) + "\n" for e in events))
    return path


def cells(path: Path) -> dict[str, str]:
    return dict(zip(status.HEAD, status.row(path), strict=True))


def test_a_real_run(best: Path, tmp_path: Path) -> None:
    done = command("src.status", str(best.parent))
    head, row = done.stdout.splitlines()
    assert head.split() == ["run", "state", "step", "result", "data", "ranks", "last", "event", "why"]
    found = read_status(best)
    assert row.split()[:3] == ["best", "finished", "5628"]
    assert row.split()[3:7] == [f"{found['correct'] / 100:.2f}", "%", "mnist", "1"]
    assert row.split()[7] == "finish"
    assert status.runs(tmp_path) == []
    assert status.runs(best) == [best]
    with pytest.raises(UserError, match="no such folder"):
        status.runs(tmp_path / "none")


def test_running_or_killed(tmp_path: Path) -> None:
    path = make(tmp_path / "x", "running")
    lock = hold(path)
    assert cells(path)["state"] == "running"
    os.close(lock)
    assert cells(path)["state"] == "killed"
    (path / "lock").write_text(f"host not-{socket.gethostname()}, pid 1")
    assert cells(path)["state"] == "running"  # a process on another host cannot be looked for
    assert cells(make(tmp_path / "y", "preempted"))["state"] == "preempted"


def test_why_it_stopped_or_was_started_again(tmp_path: Path) -> None:
    stop, resume = {"event": "stop", "reason": "SIGTERM"}, {"event": "resume"}
    assert cells(make(tmp_path / "a", "preempted", (stop,), reason="SIGTERM"))["why"] == "SIGTERM"
    assert cells(make(tmp_path / "b", "running", (stop, resume)))["why"] == "SIGTERM (resumed 1 x)"
    assert cells(make(tmp_path / "c", "running", (resume, resume)))["why"] == "killed (resumed 2 x)"
    assert cells(make(tmp_path / "j", "running", ({"event": "start"},)))["why"] == ""
    began, end, failed = {"event": "start"}, {"event": "finish"}, {"event": "failed", "reason": "boom"}
    assert cells(make(tmp_path / "f", "finished", (began, end, resume, end)))["why"] == "prolonged (resumed 1 x)"
    assert cells(make(tmp_path / "g", "finished", (began, stop, resume, resume, end)))["why"] == "killed (resumed 2 x)"
    assert cells(make(tmp_path / "h", "finished", (began, failed, resume, end)))["why"] == "boom (resumed 1 x)"
    assert cells(make(tmp_path / "i", "finished", (began, end)))["why"] == ""
    long = cells(make(tmp_path / "d", "failed", reason="first\nsecond " + "x" * 200))["why"]
    assert long.startswith("first second xxx")
    assert len(long) == status.WHY_LETTERS
    assert cells(make(tmp_path / "e", "finished", ({"event": "finish"},)))["last event"] == "finish 2026-01-02 03:04:05"


def test_the_newest_step_and_result_of_any_model(tmp_path: Path) -> None:
    """The metric that the model's file names first: in percent where it divides whole numbers."""
    path = make(tmp_path / "x", "running")
    lines = [{"kind": "test", "step": step, "error": 4.25 - step, "hits": step / 12} for step in (8, 9)]
    lines.append({"kind": "train", "step": 11, "error": 7.0})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "tes')
    assert (cells(path)["step"], cells(path)["result"]) == ("11", "-4.75")
    for names, text in ((["hits", "error"], "75.00 %"), (["error", "hits"], "-4.75"), (["gone"], "not finite")):
        described = {"names": names, "shares": {"hits": ["right", "count"]}, "best": "hits", "higher_is_better": True}
        tables.write(path, 9, {"metrics": described}, print)
        assert cells(path)["result"] == text


def test_damaged_runs_are_listed_as_damaged(tmp_path: Path) -> None:
    make(tmp_path / "good")
    for name in ("events.jsonl", "metrics.jsonl"):
        (make(tmp_path / name) / name).write_text("rubbish\n")
    for name, content in (("cut", '{"state": "fini'), ("list", "[1]")):
        (make(tmp_path / name) / "status.json").write_text(content)
    rows = {row[0]: row[1] for row in map(status.row, status.runs(tmp_path))}
    assert rows == {
        "good": "finished",
        "events.jsonl": "damaged",
        "metrics.jsonl": "damaged",
        "cut": "?",
        "list": "?",
    }


def test_watch_ends_without_an_error_message(tmp_path: Path) -> None:
    make(tmp_path / "x")
    watch = [sys.executable, "-m", "src.status", str(tmp_path), "--watch"]
    with subprocess.Popen(
        watch,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell's `&` has it ignored
    ) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 120)[0]
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=240)
    assert (process.returncode, errors) == (130, b"")
    assert out.startswith(b"run  state")  # no escape codes into a log
    with subprocess.Popen(watch, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(timeout=240) == 141
