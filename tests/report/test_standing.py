"""A run that nobody was left to report: what its page says, from its files."""

import json
import os
import signal
import time
from pathlib import Path

from src.report import facts, standing
from src.report import page as report
from src.run import layout
from src.run.lock import hold
from tests.helpers.commands import command
from tests.helpers.pages import Open, copy
from tests.helpers.ranks import start_job


def test_a_run_whose_ranks_were_all_killed_has_a_page(small: str, tmp_path: Path, show: Open) -> None:
    settings = ("data.name=idx", f"data.root={small}", "run.name=r", "log.every=10", "train.global_batch_size=16")
    job = start_job(2, tmp_path, *settings, "train.epochs=100000", "checkpoint.every_steps=20")
    run = tmp_path / "runs" / "r"
    while not layout.newest_first(run / layout.CHECKPOINTS):
        time.sleep(0.05)
    running = standing.of(run)
    assert (running["state"], running["goes_on"], running["unseen"]) == ("running", "", "")
    for pid in job.pids:
        os.kill(pid, signal.SIGKILL)
    assert job.wait().codes == [-signal.SIGKILL] * 2
    assert layout.read_status(run)["state"] == "running", "nobody was left to say how it ended"
    done = command("src.report", str(run))
    assert (done.returncode, done.stdout) == (0, f"{run}/report.html\n"), done.stderr
    page = show(run / report.NAME)
    step = layout.newest_first(run / layout.CHECKPOINTS)[0].stem.removeprefix("step-").lstrip("0")
    told = page.inner_text("#key-facts").replace(",", "")
    assert "killed: its process is gone and wrote nothing after 20" in told
    assert f"To go on\nthe same command resumes at step {step}" in told
    assert f"Newest checkpoint\nstep {step} 20" in told
    last = page.locator("#life table >> nth=0").locator("tr >> nth=-1").inner_text()
    assert last.split("\t")[1] == "killed: nothing was written after this"


def test_a_run_of_another_host_may_still_run(softmax: Path, tmp_path: Path, show: Open) -> None:
    run = copy(softmax, tmp_path / "r", without="*.pt")
    (run / "status.json").write_text('{"state": "running", "step": 940, "world_size": 2}')
    (run / "lock").write_text("host elsewhere, pid 7\n")
    report.report([run], None)
    told = show(run / report.NAME).inner_text("#key-facts")
    assert "as host elsewhere, pid 7; whether it still runs cannot be seen from where this page was made" in told
    assert "killed" not in told
    lock = hold(run)
    assert standing.of(run)["unseen"] == ""
    os.close(lock)


def test_how_each_end_goes_on(softmax: Path, tmp_path: Path) -> None:
    run = copy(softmax, tmp_path / "r")
    newest = int(layout.newest_first(run / layout.CHECKPOINTS)[0].stem.removeprefix("step-"))
    assert (standing.of(run)["goes_on"], standing.of(run)["saved"]) == ("", None)
    for ended in ("preempted", "failed"):
        (run / "status.json").write_text(json.dumps({"state": ended, "step": 1}))
        assert standing.of(run)["goes_on"] == f"the same command resumes at step {newest}"
        assert standing.of(run)["saved"]["step"] == newest
    bare = copy(run, tmp_path / "bare", without="*.pt")
    assert standing.of(bare)["goes_on"] == "the same command begins again at step 0"
    assert not report.of_killed(bare)
    (bare / "status.json").unlink()
    assert facts.of(bare, layout.load_settings(bare), 10)["state"] == "not started"
