"""Checkpoints: whole, atomic, hashed, pruned; what is refused, and what is set aside."""

import os
import pickle
import resource
from pathlib import Path

import pytest
import torch

from src.config import UserError
from src.models import logistic
from src.run import archive, jsonl, lock
from src.run import run as run
from src.run.archive import Damaged
from src.run.run import read_status
from tests.helpers.ranks import Job, fork, good_job, run_job


def job(small: str, folder: Path, *settings: str, ranks: int = 2, fails: bool = False) -> Job:
    """A short bitwise run on the small data set; 64 steps in 4 epochs."""
    start = run_job if fails else good_job
    chosen = ("data.name=idx", f"data.root={small}", "train.epochs=4", "train.sync=bitwise", "log.every=5")
    return start(ranks, folder, *chosen, "run.name=r", *settings)


def names(job: Job) -> list[str]:
    return sorted(file.name for file in (job.run / "checkpoints").iterdir())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    content = {"format": archive.FORMAT, "model": {"w": torch.arange(5.0)}, "n": 3}
    digest = archive.write(tmp_path / "c.pt", content)
    assert len(digest) == 64
    found = archive.read(tmp_path / "c.pt")
    assert torch.equal(found["model"]["w"], torch.arange(5.0))
    assert torch.load(tmp_path / "c.pt", weights_only=True)["n"] == 3
    assert os.listdir(tmp_path) == ["c.pt"]


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    archive.write(tmp_path / "c.pt", {"format": 1, "w": torch.zeros(10)})
    whole = (tmp_path / "c.pt").read_bytes()
    for position in [*range(0, len(whole), 37), len(whole) - 1]:
        changed = bytearray(whole)
        changed[position] ^= 1
        (tmp_path / "c.pt").write_bytes(changed)
        with pytest.raises(Damaged):
            archive.read(tmp_path / "c.pt")
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "c.pt").write_bytes(whole[:length])
        with pytest.raises(Damaged):
            archive.read(tmp_path / "c.pt")


class Evil:
    """Unpickling it would make a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("kind", ["zip", "pickle"])
def test_code_is_refused_and_not_run(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "c.pt"
    if kind == "zip":
        archive.write(file, {"format": 1, "evil": Evil()})
        with pytest.raises(UserError, match="could run code: refused"):
            archive.read(file)
    else:
        file.write_bytes(pickle.dumps(Evil()))
        with pytest.raises(Damaged):
            archive.read(file)
    assert not (tmp_path / "evil").exists()


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    archive.write(tmp_path / "c.pt", {"format": archive.FORMAT + 1})
    with pytest.raises(UserError, match=rf"is of format {archive.FORMAT + 1}, this code reads up to"):
        archive.read(tmp_path / "c.pt")


@pytest.mark.parametrize("content", [{"format": "1"}, {"format": 1}, {"format": 1, "model": 5}, {"model": {}}])
def test_what_holds_no_model_is_refused(content: dict[str, object], tmp_path: Path) -> None:
    archive.write(tmp_path / "c.pt", content)
    with pytest.raises(UserError, match="is no checkpoint of this job"):
        archive.read(tmp_path / "c.pt")


def test_a_write_that_fails_says_why(tmp_path: Path) -> None:
    """torch.save would say `[enforce fail at inline_container.cc:671] . unexpected pos 7`."""

    def work() -> str | None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        with pytest.raises(OSError) as error:
            archive.write(tmp_path / "c.pt", {"format": 1, "w": torch.zeros(9999)})
        return error.value.strerror

    assert fork(1, work, tmp_path).values == ["File too large"]
    assert not list(tmp_path.glob("*.pt*"))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.write(tmp_path / "c.pt", {"format": 1})
    before = (tmp_path / "c.pt").read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        archive.write(tmp_path / "c.pt", {"format": 1, "more": torch.zeros(9)})
    assert os.listdir(tmp_path) == ["c.pt"]
    assert (tmp_path / "c.pt").read_bytes() == before


def test_a_run_keeps_the_newest_and_the_best(small: str, tmp_path: Path) -> None:
    done = job(small, tmp_path, "checkpoint.every_steps=5", "checkpoint.keep=2")
    kept = names(done)
    assert kept == ["best.pt", "step-00000060.pt", "step-00000064.pt"]
    best = archive.read(done.run / "checkpoints" / "best.pt")
    tests = [line for line in jsonl.read(done.run / "metrics.jsonl") if line["kind"] == "test"]
    assert best["progress"]["best_correct"] == max(line["correct"] for line in tests)
    content = archive.read(done.run / "checkpoints" / kept[-1])
    assert set(content["model"]) == {"linear.weight", "linear.bias"}
    assert all(tensor.device.type == "cpu" for tensor in content["model"].values())
    events = [event for event in jsonl.read(done.run / "events.jsonl") if event["event"] == "checkpoint"]
    assert [event["step"] for event in events][-2:] == [60, 64]
    assert all(len(event["sha256"]) == 64 and event["milliseconds"] > 0 for event in events)


def test_a_finished_run_says_so(small: str, tmp_path: Path) -> None:
    first = job(small, tmp_path)
    again = job(small, tmp_path, ranks=3)
    assert "is finished" in again.output
    assert read_status(again.run) == read_status(first.run)
    assert again.output.count("\n") == 1


def test_more_epochs_prolong_a_finished_run(small: str, tmp_path: Path) -> None:
    whole = job(small, tmp_path / "whole", "train.epochs=6")
    job(small, tmp_path, "train.epochs=4")
    prolonged = job(small, tmp_path, "train.epochs=6", ranks=3)
    assert "resumed at step 64, 2 ranks before" in prolonged.output
    assert read_status(prolonged.run)["weights_sha256"] == read_status(whole.run)["weights_sha256"]


def test_contradicting_settings_are_listed(small: str, tmp_path: Path) -> None:
    first = job(small, tmp_path)
    before = (first.run / "config.yaml").read_bytes()
    refused = job(small, tmp_path, "optim.lr=0.5", "train.seed=3", "log.every=1", fails=True)
    assert refused.codes == [2, 2]
    assert (first.run / "config.yaml").read_bytes() == before
    assert "optim.lr 0.01 -> 0.5; train.seed 0 -> 3" in refused.output
    assert refused.output.count("error:") == 1


def test_never_sets_the_old_run_aside(small: str, tmp_path: Path) -> None:
    first = job(small, tmp_path)
    before = (first.run / "metrics.jsonl").read_bytes()
    job(small, tmp_path, "checkpoint.resume=never", "optim.lr=0.5")
    (aside,) = [path for path in (tmp_path / "runs").iterdir() if path.name != "r"]
    assert (aside / "metrics.jsonl").read_bytes() == before
    assert (first.run / "metrics.jsonl").read_bytes() != before


def test_weights_of_another_run(small: str, tmp_path: Path) -> None:
    first = job(small, tmp_path)
    source = first.run / "checkpoints" / "best.pt"
    second = job(small, tmp_path, "run.name=second", f"checkpoint.resume={source}", "optim.lr=0.02")
    assert f"(weights of {source})" in second.output
    lines_of = [next(jsonl.read(path / "metrics.jsonl")) for path in (first.run, second.run)]
    assert lines_of[1]["step"] == 5
    assert lines_of[1]["loss"] < lines_of[0]["loss"]


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ({"format": 1, "model": {"linear.weight": torch.zeros(3, 3)}}, "does not fit the model: linear.bias None"),
        ({"format": 9}, "is of format 9"),
        ({"weights": 1}, "is no checkpoint of this job"),
        (None, "cannot be read (No such file or directory)"),
        (b"rubbish", "is truncated or no checkpoint"),
    ],
)
def test_weights_that_do_not_fit(content: object, advice: str, small: str, tmp_path: Path) -> None:
    file = tmp_path / "other.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, dict):
        archive.write(file, content)
    refused = job(small, tmp_path, f"checkpoint.resume={file}", fails=True)
    assert refused.codes == [2, 2], refused.output
    assert advice in refused.output
    assert f"error: checkpoint.resume={file}: " in refused.output
    assert not (tmp_path / "runs" / "r" / "config.yaml").exists(), "the mended command would contradict it"


def test_a_changed_model_is_refused(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(logistic.PIXELS, 10, bias=False)

    job(small, tmp_path, "train.epochs=1")
    monkeypatch.setattr(logistic, "LogisticRegression", Other)
    refused = job(small, tmp_path, fails=True)
    assert refused.codes == [2, 2], refused.output
    assert "does not fit the model: linear.bias (10,), expected None; was its file changed?" in refused.output


def test_changed_data_is_refused(small: str, tmp_path: Path) -> None:
    from tests.helpers.data_sets import write_data_set

    first = job(small, tmp_path, "train.epochs=2")
    records = [first.run / name for name in ("config.yaml", "provenance.json", "status.json", "metrics.jsonl")]
    before = [file.read_bytes() for file in records]
    write_data_set(tmp_path / "IDX" / "raw", 1009, 200, seed=5)
    refused = job(str(tmp_path), tmp_path, fails=True)
    assert refused.codes == [2, 2]
    assert "was trained on other data" in refused.output
    assert [file.read_bytes() for file in records] == before


def test_two_jobs_on_one_run(small: str, tmp_path: Path) -> None:
    import fcntl

    job(small, tmp_path, "train.epochs=2")
    handle = os.open(tmp_path / "runs" / "r" / "lock", os.O_RDWR)
    assert b"pid" in os.pread(handle, 100, 0), "a lock left by a dead process does not block, and says whose it was"
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.set_inheritable(handle, False)
    refused = job(small, tmp_path, fails=True)
    os.close(handle)
    assert refused.codes == [2, 2]
    assert "is in use by host " in refused.output
    assert lock.LOCK_SECONDS < 10
    assert "resumed at step 32" in job(small, tmp_path).output


def test_a_damaged_checkpoint_is_set_aside(small: str, tmp_path: Path) -> None:
    whole = job(small, tmp_path / "whole")
    half = job(small, tmp_path, "train.epochs=3", "checkpoint.every_steps=10")
    newest = half.run / "checkpoints" / "step-00000048.pt"
    earlier = (half.run / "checkpoints" / "step-00000040.pt").read_bytes()
    newest.write_bytes(newest.read_bytes()[:-100])
    again = job(small, tmp_path, ranks=1)
    assert "DAMAGED" in again.output
    assert "resumed at step 40" in again.output
    assert "step-00000048.pt.damaged" in names(again)
    assert read_status(again.run)["weights_sha256"] == read_status(whole.run)["weights_sha256"]
    assert [e["file"] for e in jsonl.read(again.run / "events.jsonl") if e["event"] == "damaged"] == [newest.name]
    steps = [line["step"] for line in jsonl.read(again.run / "metrics.jsonl") if line["kind"] == "train"]
    assert steps == [line["step"] for line in jsonl.read(whole.run / "metrics.jsonl") if line["kind"] == "train"]

    for best, told in (
        (earlier, "resumed at step 40"),
        (earlier[:-1], "no good checkpoint left: training starts anew"),
    ):
        for file in again.run.glob("checkpoints/step-*.pt"):
            file.write_bytes(file.read_bytes()[:-100])
        (again.run / "checkpoints" / "best.pt").unlink()
        (again.run / "checkpoints" / "best.pt").write_bytes(best)
        last = job(small, tmp_path, ranks=1)
        assert told in last.output
        assert read_status(last.run)["weights_sha256"] == read_status(whole.run)["weights_sha256"]


def test_a_loss_that_is_not_finite_stops_before_the_step(small: str, tmp_path: Path) -> None:
    failed = job(small, tmp_path, "optim.lr=1e38", "train.loss=cross_entropy", "checkpoint.every_steps=1", fails=True)
    assert failed.codes == [1, 1], failed.output
    assert "the loss is not finite at step" in failed.output
    assert "with learning rate 1e+38" in failed.output
    assert "Traceback" not in failed.output
    found = read_status(failed.run)
    assert found["state"] == "failed"
    assert "not finite" in str(found["reason"])
    newest = [name for name in names(failed) if name.startswith("step-")][-1]
    content = archive.read(failed.run / "checkpoints" / newest)
    assert all(torch.isfinite(tensor).all() for tensor in content["model"].values())


def test_a_full_disk_costs_one_checkpoint_and_says_so(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, calls = archive.write, []

    def full(*arguments: object) -> str:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(archive, "write", full)
    done = job(small, tmp_path)
    assert "No space left on device: this checkpoint is lost, the one before it is safe" in done.output
    assert read_status(done.run)["state"] == "finished"


def test_a_full_disk_at_the_end_is_an_error(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> str:
        raise OSError(28, "No space left on device")

    write_whole = run.write_whole

    def full_later(file: Path, text: str) -> None:
        if file.exists():
            full()
        write_whole(file, text)

    monkeypatch.setattr(archive, "write", full)
    monkeypatch.setattr(run, "write_whole", full_later)
    failed = job(small, tmp_path, fails=True)
    assert failed.codes == [2, 2]
    assert "No space left on device; make room and run the same command" in failed.output
    assert read_status(failed.run)["state"] == "failed"
