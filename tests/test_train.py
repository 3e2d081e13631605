"""The whole job: its accuracy on any number of ranks, its output and its files."""

import hashlib
import json
import re
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from src import train
from src.run import archive, jsonl, tables
from src.run.layout import read_status
from tests.helpers.ranks import ROOT, Job, fork, good_job, run_job, torchrun

# SHA-256 of the weights of the default recipe in bitwise mode (8 shards), after so many epochs, by the processor's
# maker (the matrix library takes other paths for each), its vector instructions, and torch's version. Elsewhere the
# test compares world sizes only, and says so.
PINNED = {
    ("AuthenticAMD", "AVX512", "2.15"): {
        1: "eff188feb6e13759e78874ca8a51fb9edbe96fd4a2c03daa66aae10564dc9e79",
        10: "73434e77b74ba232f1f8c82ce7fe58e44ee0fcad7b6c32e7c5b6b944a413ff52",
    },
}


def conditions() -> tuple[str, str, str]:
    found = re.search(r"^vendor_id\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    release = ".".join(torch.__version__.split(".")[:2])
    return found[1] if found else "?", torch.backends.cpu.get_cpu_capability(), release


def weights(job: Job) -> torch.Tensor:
    newest = max((job.run / "checkpoints").glob("step-*.pt"))
    model = archive.read(newest)["model"]
    return torch.cat([model[name].flatten() for name in sorted(model)])


def curve(job: Job) -> list[dict[str, object]]:
    return [
        {name: value for name, value in line.items() if name not in ("samples_per_second", "seconds")}
        for line in jsonl.read(job.run / "metrics.jsonl")
    ]


def test_one_epoch_on_any_number_of_ranks(mnist: str, tmp_path: Path) -> None:
    jobs = {
        ranks: good_job(ranks, tmp_path, f"data.root={mnist}", "train.epochs=1", f"run.name={ranks}")
        for ranks in (1, 2, 3, 4)
    }
    correct = {ranks: read_status(job.run)["correct"] for ranks, job in jobs.items()}
    assert 7300 <= correct[1] <= 7800
    for ranks, job in jobs.items():
        assert abs(correct[ranks] - correct[1]) <= 3
        torch.testing.assert_close(weights(job), weights(jobs[1]), rtol=0, atol=1e-5)
        assert f"{correct[ranks]}/10000 = {correct[ranks] / 100:.2f} %" in job.output
    losses = [[line["loss"] for line in curve(job)] for job in jobs.values()]
    assert all(other == pytest.approx(losses[0], rel=1e-4) for other in losses)


@pytest.mark.slow(seconds=6)
def test_ten_epochs(mnist: str, tmp_path: Path) -> None:
    job = good_job(1, tmp_path, f"data.root={mnist}")
    assert 8450 <= read_status(job.run)["correct"] <= 8600
    assert read_status(job.run)["step"] == 9380


@pytest.mark.slow(seconds=11)
def test_the_best_recipe(mnist: str, tmp_path: Path) -> None:
    job = good_job(1, tmp_path, f"data.root={mnist}", f"config={ROOT}/configs/best.yaml", "data.fallback=none")
    assert read_status(job.run)["correct"] >= 9250


def is_pinned(epochs: int, job: Job) -> bool:
    """Whether the job's weights have the hash that is pinned for this machine; warns where none is pinned."""
    digest = read_status(job.run)["weights_sha256"]
    pinned = PINNED.get(conditions())
    if pinned is None:
        warnings.warn(
            f"no hash is pinned for {conditions()}: compared world sizes only; {epochs} epochs: {digest}", stacklevel=1
        )
    return pinned is None or digest == pinned[epochs]


def test_one_hash(mnist: str, tmp_path: Path) -> None:
    settings = (f"data.root={mnist}", "train.sync=bitwise", "train.epochs=1")
    jobs = [good_job(ranks, tmp_path, *settings, f"run.name={ranks}") for ranks in (1, 2, 3, 8)]
    assert len({read_status(job.run)["weights_sha256"] for job in jobs}) == 1
    assert all(curve(job) == curve(jobs[0]) for job in jobs)
    assert is_pinned(1, jobs[0])


@pytest.mark.slow(seconds=10)
def test_one_hash_after_ten_epochs(mnist: str, tmp_path: Path) -> None:
    settings = (f"data.root={mnist}", "train.sync=bitwise", "run.name=x")
    good_job(3, tmp_path, *settings, "train.epochs=1")
    assert is_pinned(10, good_job(2, tmp_path, *settings, "train.epochs=10"))


HARD = (
    *("train.sync=bitwise", "train.epochs=2", "train.global_batch_size=50", "log.every=4", "checkpoint.every_steps=5"),
    *("optim.momentum=0.9", "optim.schedule=cosine", "optim.warmup_steps=7", "optim.weight_decay=0.01"),
    "model.loss=cross_entropy",
)


@pytest.mark.parametrize(
    ("worlds", "gloo_worlds"), [((3, 8), (2,)), pytest.param((2, 4, 5, 6, 7), (5,), marks=pytest.mark.slow(seconds=12))]
)
def test_one_hash_and_one_record_on_any_ranks_and_through_kills(
    worlds: tuple[int, ...], gloo_worlds: tuple[int, ...], small: str, tmp_path: Path
) -> None:
    """A short last batch, momentum and a schedule, on 1 to 8 ranks, through memory and gloo, and killed twice."""
    settings = ("data.name=idx", f"data.root={small}", *HARD)
    alone = good_job(1, tmp_path, *settings, "run.name=1")
    jobs = [good_job(n, tmp_path, *settings, f"run.name={n}") for n in worlds]
    jobs += [good_job(n, tmp_path, *settings, "train.exchange=backend", f"run.name=gloo-{n}") for n in gloo_worlds]
    for ranks, fault in ((4, "renamed@3"), (2, "writing@2")):
        killed = run_job(ranks, tmp_path, *settings, "run.name=killed", fault=fault)
        assert -signal.SIGKILL in killed.codes, killed.output
    jobs.append(good_job(7, tmp_path, *settings, "run.name=killed"))
    assert "(resumed at step 20, 2 ranks before)" in jobs[-1].output
    for job in jobs:
        assert read_status(job.run)["weights_sha256"] == read_status(alone.run)["weights_sha256"]
        assert curve(job) == curve(alone)


def test_adamw_resumes_to_the_same_bits(small: str, tmp_path: Path) -> None:
    settings = ("data.name=idx", f"data.root={small}", "optim.name=adamw", "optim.lr=0.001", "run.name=a")
    whole = good_job(2, tmp_path / "whole", *settings, "train.epochs=4")
    good_job(2, tmp_path, *settings, "train.epochs=2")
    resumed = good_job(2, tmp_path, *settings, "train.epochs=4")
    assert read_status(resumed.run)["weights_sha256"] == read_status(whole.run)["weights_sha256"]


def test_what_a_run_leaves_behind(small: str, tmp_path: Path) -> None:
    job = good_job(2, tmp_path, "data.name=idx", f"data.root={small}", "train.epochs=2", "log.every=5")
    found = read_status(job.run)
    assert found["state"] == "finished"
    assert {
        *("state", "epoch", "step", "correct", "count", "loss", "samples_per_second", "world_size", "data"),
        "weights_sha256",
    } <= found.keys()
    assert (found["epoch"], found["step"], found["count"], found["world_size"], found["data"]) == (2, 32, 200, 2, "idx")
    newest = archive.read(job.run / "checkpoints" / "step-00000032.pt")["model"]
    raw = b"".join(newest[name].numpy().tobytes() for name in sorted(newest))
    assert found["weights_sha256"] == hashlib.sha256(raw).hexdigest()
    facts = json.loads((job.run / "provenance.json").read_text())
    assert facts["world_size"] == 2
    assert facts["torch"] == torch.__version__
    assert len(facts["devices"]) == 2
    assert set(facts["git"]) == {"commit", "dirty"}
    train = [line for line in jsonl.read(job.run / "metrics.jsonl") if line["kind"] == "train"]
    tests = [line for line in jsonl.read(job.run / "metrics.jsonl") if line["kind"] == "test"]
    assert [line["step"] for line in train] == [5, 10, 15, 16, 21, 26, 31, 32]
    assert [line["samples_seen"] for line in tests] == [1009, 2018]
    assert not any("confusion" in line for line in tests), "large results go to files of their own"
    confusion = tables.read(job.run, "confusion")
    assert sum(map(sum, confusion)) == 200
    assert tests[-1]["correct"] == sum(confusion[label][label] for label in range(10))
    kinds = [event["event"] for event in jsonl.read(job.run / "events.jsonl")]
    assert kinds == ["start", "checkpoint", "checkpoint", "finish"]
    assert job.run.name.startswith("idx-")


def test_the_printed_loss_is_over_all_ranks(small: str, tmp_path: Path) -> None:
    jobs = [
        good_job(n, tmp_path, "data.name=idx", f"data.root={small}", "train.epochs=1", f"run.name={n}") for n in (1, 3)
    ]
    first, second = ([line["loss"] for line in curve(job) if line["kind"] == "train"] for job in jobs)
    assert first == pytest.approx(second, rel=1e-5)


@pytest.mark.parametrize("settings", [("train.global_batch_size=3",), ("train.global_batch_size=5000",)])
def test_odd_batch_sizes(settings: tuple[str, ...], small: str, tmp_path: Path) -> None:
    job = good_job(4, tmp_path, "data.name=idx", f"data.root={small}", "train.epochs=1", *settings)
    assert read_status(job.run)["state"] == "finished"


# One of the settings, and those that depend on the host; tests/test_config.py has the others.
MISTAKES = {
    "epochs=3": "did you mean train.epochs?",
    "train.device=cuda": "train.device=cuda: 2 ranks on this host, 0 GPUs",
    "run.root=/proc/none": "run.root=/proc/none: /proc/none/",
    "run.root=/dev/null": "run.root=/dev/null: ",
}


@pytest.mark.parametrize(("argument", "advice"), MISTAKES.items())
def test_a_mistake_is_one_line_and_exit_code_2(argument: str, advice: str, small: str, tmp_path: Path) -> None:
    if "cuda" in argument and torch.cuda.device_count():
        pytest.skip("there are GPUs here")
    job = run_job(2, tmp_path, "data.name=idx", f"data.root={small}", argument)
    assert job.codes == [2, 2], job.output
    assert job.output.count("\n") == 1
    assert job.output.startswith("error: ")
    assert advice in job.output


def test_more_ranks_than_shards(small: str, tmp_path: Path) -> None:
    job = run_job(3, tmp_path, "data.name=idx", f"data.root={small}", "train.sync=bitwise", "train.shards=2")
    assert job.codes == [2, 2, 2]
    assert job.output.count("train.shards=2: 3 ranks cannot share them") == 1


def test_a_disk_that_is_full_from_the_start(small: str, tmp_path: Path) -> None:
    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, resource.RLIM_INFINITY))
        sys.argv = ["train", "model.name=logistic", "data.name=idx", f"data.root={small}"]
        sys.argv += [f"run.root={tmp_path}", "run.name=r"]
        train.main()

    job = fork(1, work, tmp_path)
    assert job.codes == [2]
    assert job.output == (
        f"error: run.root={tmp_path}: {tmp_path / 'r'} cannot be written (File too large); "
        "the limit of a file's size is reached: ulimit -f unlimited, or name another folder with run.root=\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [("RANK", "x", "RANK=x: must be a whole number"), ("RANK", "7", "the rank must be below the world size")],
)
def test_any_rank_reports_an_impossible_environment(name: str, value: str, advice: str, tmp_path: Path) -> None:
    job = run_job(1, tmp_path, environment={name: value})
    assert job.codes == [2]
    assert job.output.startswith(f"error: {name}={value}")
    assert advice in job.output


def test_one_process_without_torchrun(small: str, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "src.train",
        "model.name=logistic",
        "data.name=idx",
        f"data.root={small}",
        f"run.root={tmp_path}",
    ]
    done = subprocess.run(
        [*command, "track.wandb=disabled", "train.epochs=1"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "batch    global 64 = 1 rank x 64" in done.stdout


def test_the_output_under_torchrun_is_the_job_s_alone(small: str, tmp_path: Path) -> None:
    job = torchrun(2, "data.name=idx", f"data.root={small}", f"run.root={tmp_path}", "train.epochs=1", "log.seconds=0")
    output, _ = job.communicate(timeout=240)
    assert job.returncode == 0, output
    starts = (
        "training on",
        "world ",
        "sync ",
        "data ",
        "best ",
        "track ",
        "batch ",
        "run ",
        "epoch ",
        "result ",
        "speed ",
        "saved ",
        "next ",
    )
    strange = [line for line in output.splitlines() if not line.startswith(starts)]
    assert strange == []
    assert "batch    global 64 = 2 ranks x 32" in output
    assert re.search(r"^epoch 1/1  step 16/16  loss 0\.\d{4}  [\d,]+ samples/s  0:00:00 left$", output, re.MULTILINE)
    assert re.search(r"^result   \d+/200 = \d+\.\d\d %, loss ", output, re.MULTILINE)


def test_a_mistake_under_torchrun_is_in_its_last_lines(tmp_path: Path) -> None:
    job = torchrun(2, "optim.lr=-1", f"run.root={tmp_path}")
    output, _ = job.communicate(timeout=240)
    assert job.returncode != 0
    assert output.count("error: optim.lr=-1: must be above 0\n") == 1
    assert "optim.lr=-1: must be above 0" in output[-1200:]
    assert not list(tmp_path.iterdir())


def test_help_lists_every_key() -> None:
    done = subprocess.run([sys.executable, "-m", "src.train", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "optim.warmup_steps" in done.stdout


def test_slow_packages_are_not_imported(small: str, tmp_path: Path) -> None:
    """On a run with its files in place: no torchvision, wandb, PIL or matplotlib."""
    code = (
        "import sys; from src import train; sys.argv = ['train', 'model.name=logistic'] + sys.argv[1:]; train.main();"
        "slow = ('torchvision', 'wandb', 'PIL', 'matplotlib', 'src.data.digits');"
        "print('IMPORTED', [name for name in slow if name in sys.modules])"
    )
    settings = ["data.name=idx", f"data.root={small}", f"run.root={tmp_path}", "track.wandb=disabled", "train.epochs=1"]
    done = subprocess.run([sys.executable, "-c", code, *settings], cwd=ROOT, capture_output=True, text=True)
    assert "IMPORTED []" in done.stdout, done.stdout + done.stderr
