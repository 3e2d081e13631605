"""`python -m src.report --follow RUN`: the page of a run while it trains, which a browser loads again by itself."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from src.report import following
from src.report import page as report
from src.report.following import Page
from src.run.layout import ExitCode
from src.run.lock import hold
from tests.helpers.commands import command as run_command
from tests.helpers.pages import Open, copy
from tests.helpers.ranks import ROOT

RELOADS = 'http-equiv="refresh"'


def eventually(file: Path, text: str, writer: "subprocess.Popen[str]") -> None:
    while not file.exists() or text not in file.read_text():
        assert writer.poll() is None, writer.communicate()
        time.sleep(0.05)


def test_the_page_is_written_again_where_there_is_something_new(
    softmax: Path, tmp_path: Path, show: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PAGE_SECONDS", 0.0)
    monkeypatch.setattr(following, "SHARE", 0)
    run = copy(softmax, tmp_path / "r", without="*.pt")
    file = run / report.NAME
    (run / "status.json").write_text(json.dumps({"state": "running", "step": 940}))
    lock, live = hold(run), Page(run, file)
    live.look()
    file.unlink()
    live.look()
    assert not file.exists(), "nothing is new"
    line = (run / "metrics.jsonl").read_text().splitlines()[-1]
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write(line + "\n")
    live.look()
    assert "The run goes on" in show(file).inner_text("#wrong .missing")
    os.close(lock)
    live.look()
    assert '"state":"killed"' in file.read_text()


def started(module: str, *arguments: str) -> "subprocess.Popen[str]":
    """A process of its own: a fork would share the browser's event loop with these tests, and stop it."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_real_run_is_followed_to_its_end(small: str, tmp_path: Path) -> None:
    settings = ["data.name=idx", f"data.root={small}", f"run.root={tmp_path}", "run.name=r", "track.wandb=disabled"]
    run = tmp_path / "r"
    job = started("src.train", *settings, "log.every=10", "train.global_batch_size=16", "train.epochs=100000")
    while not (run / "status.json").exists():
        assert job.poll() is None
        time.sleep(0.05)
    followed = started("src.report", "--follow", str(run))
    other = started("src.report", "--follow", str(run), f"--file={tmp_path}/b.html")
    eventually(run / report.NAME, RELOADS, followed)
    eventually(tmp_path / "b.html", RELOADS, other)
    other.send_signal(signal.SIGINT)
    assert other.wait() == 130, other.communicate()
    assert RELOADS not in (tmp_path / "b.html").read_text(), "nobody writes it again"
    (run / "STOP").touch()
    job.communicate()
    output, errors = followed.communicate()
    assert followed.returncode == ExitCode.STOPPED, errors
    assert output.startswith(f"page     {run}/report.html\n")
    assert "stopped  STOP file: saved at step " in output
    page = (run / report.NAME).read_text()
    assert RELOADS not in page
    assert '"state":"preempted"' in page
    assert '"checkpoint":""' not in page, "the weights are shown at the end"


def test_one_run_is_followed(tmp_path: Path) -> None:
    done = run_command("src.report", "--follow", "a", "b")
    assert (done.returncode, done.stderr) == (2, "error: --follow: 2 runs; it writes the page of one; name one\n")
    done = run_command("src.report", "--follow", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is no run" in done.stderr
