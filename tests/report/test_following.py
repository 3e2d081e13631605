"""`python -m src.report --follow RUN`: the page of a run while it trains, which a browser loads again by itself."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from src.report import __main__ as command
from src.report import following
from src.report import page as report
from src.report.following import Page
from src.run.layout import ExitCode
from src.run.lock import hold
from tests.helpers.commands import Command
from tests.helpers.commands import command as run_command
from tests.helpers.pages import Open, copy
from tests.helpers.ranks import start_job

RELOADS = 'http-equiv="refresh"'


def eventually(file: Path, text: str) -> None:
    while not file.exists() or text not in file.read_text():
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


def test_a_real_run_is_followed_to_its_end(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PAGE_SECONDS", 1.0)
    settings = ("data.name=idx", f"data.root={small}", "run.name=r", "log.every=10", "train.global_batch_size=16")
    run = tmp_path / "runs" / "r"
    job = start_job(1, tmp_path, *settings, "train.epochs=100000")
    while not (run / "status.json").exists():
        time.sleep(0.05)
    followed, other = (
        Command(command.main, ["--follow", str(run), *more], dict(os.environ), tmp_path / name)
        for name, more in (("a", []), ("b", [f"--file={tmp_path}/b.html"]))
    )
    eventually(run / report.NAME, RELOADS)
    eventually(tmp_path / "b.html", RELOADS)
    os.kill(other.pid, signal.SIGINT)
    assert other.wait().returncode == 130
    assert RELOADS not in (tmp_path / "b.html").read_text(), "nobody writes it again"
    (run / "STOP").touch()
    job.wait()
    done = followed.wait()
    assert done.returncode == ExitCode.STOPPED, done.stderr
    assert done.stdout.startswith(f"page     {run}/report.html\n")
    assert "stopped  STOP file: saved at step " in done.stdout
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
