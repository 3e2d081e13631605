"""Ranks forked by launch.torchrun: what they find is what torchrun's own ranks find, and the weights are the same."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from launch import forked
from src.errors import UserError
from src.run import jsonl
from src.run.layout import read_status
from tests.helpers.once import made_once
from tests.helpers.processes import environment, family
from tests.helpers.ranks import ROOT

OTHERS = (("train.sync=bitwise",), ("optim.name=adamw", "optim.lr=0.01"))
TORCHRUN = ("torch.distributed.run", "--standalone", "--local-addr=127.0.0.1")
OURS = ("launch.torchrun", "--standalone")
# What a rank finds when it loads its model, which is after it has started to listen to signals.
PROBE = """
import json, logging, os, random, signal, sys, threading
from pathlib import Path
import numpy, torch
from src.models.logistic import *

def named(number):
    handler = signal.getsignal(number)
    return getattr(handler, "__qualname__", str(handler))

state = {
    "words": sys.argv, "main": sys.modules["__main__"].__spec__.name, "session": os.getsid(0) == os.getpid(),
    "handlers": {number.name: named(number) for number in signal.Signals},
    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "log": logging.root.manager.disable,
    "threads": torch.get_num_threads(), "environment": sorted(os.environ), "draws": random.random(),
    "numpy": numpy.random.get_state()[1][1].item(), "torch": torch.initial_seed(), "folder": os.environ["TMPDIR"],
    "command": Path("/proc/self/cmdline").read_bytes().rstrip(b"\\0").decode().split("\\0")[1:],
}
(Path(__file__).parent / f"{os.environ['RANK']}.json").write_text(json.dumps(state))
"""


def start(launcher: tuple[str, ...], settings: list[str], ranks: int = 2, **variables: str) -> "subprocess.Popen[str]":
    """Start so many ranks."""
    words = [sys.executable, "-m", *launcher, f"--nproc-per-node={ranks}", "-m", "src.train", *settings]
    return subprocess.Popen(
        words,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup's, where the tests are run by it
    )


def ended(job: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """(exit code, output, errors)"""
    output, errors = job.communicate(timeout=240)
    return job.returncode, output, errors


def settings(small: str, folder: Path, *more: str) -> list[str]:
    """A short job's."""
    given = ["data.name=idx", f"data.root={small}", f"run.root={folder}", "run.name=r", "track.wandb=disabled"]
    return [*given, "train.epochs=1", *more]


@pytest.fixture(scope="session")
def probed(small: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by each launcher, LAUNCHER/runs/r, with what each of its ranks found, LAUNCHER/RANK.json."""

    def make(folder: Path) -> None:
        for launcher in (OURS, TORCHRUN):
            (folder / launcher[0]).mkdir()
            (folder / launcher[0] / "probe.py").write_text(PROBE)
            (folder / "tmp").mkdir(exist_ok=True)
            code, _, errors = ended(start(launcher, probing(small, folder, launcher[0]), TMPDIR=str(folder / "tmp")))
            assert code == 0, errors

    return made_once(tmp_path_factory, "probed", make)


def probing(small: str, folder: Path, launcher: str) -> list[str]:
    """The settings of a run that notes what its ranks find."""
    return settings(small, folder / launcher / "runs", f"model.name={folder}/{launcher}/probe.py")


def check_same(one: Path, other: Path) -> None:
    """Two runs have the same weights."""
    ours, theirs = (read_status(run)["weights_sha256"] for run in (one, other))
    assert ours == theirs


def test_the_weights_are_those_of_plain_torchrun(probed: Path) -> None:
    check_same(*(probed / launcher[0] / "runs" / "r" for launcher in (OURS, TORCHRUN)))


@pytest.mark.slow(seconds=8)
@pytest.mark.parametrize("more", OTHERS)
def test_the_weights_are_those_of_plain_torchrun_with(more: tuple[str, ...], small: str, tmp_path: Path) -> None:
    for launcher in (OURS, TORCHRUN):
        code, output, errors = ended(start(launcher, settings(small, tmp_path / launcher[0], *more)))
        assert code == 0, output + errors
    check_same(*(tmp_path / launcher[0] / "r" for launcher in (OURS, TORCHRUN)))


def test_a_rank_finds_what_one_of_torchrun_finds(small: str, probed: Path) -> None:
    states: list[list[dict[str, Any]]] = []
    for launcher in (OURS, TORCHRUN):
        words = probing(small, probed, launcher[0])
        states.append([json.loads((probed / launcher[0] / f"{rank}.json").read_text()) for rank in (0, 1)])
        for state in states[-1]:
            assert state["words"] == [str(ROOT / "src" / "train.py"), *words]
            assert state["command"] == ["-u", "-m", "src.train", *words]
    assert states[0][0]["mask"] == [signal.SIGUSR1, signal.SIGUSR2], "they wait for a rank that can save"
    for name in ("main", "session", "handlers", "log", "threads"):
        assert [state[name] for state in states[0]] == [state[name] for state in states[1]], name
    for name in ("draws", "numpy", "torch", "folder"):
        assert states[0][0][name] != states[0][1][name], name
    assert states[0][0]["environment"] == states[1][0]["environment"]
    assert list((probed / "tmp").glob("torchrun-*")) + list((probed / "tmp").glob("training-*")) == []


LOADED = """
import os, threading
from pathlib import Path
from src import config, train
with train.importing_torch():
    from launch import agent, forked
    agent.load(config.parse({settings}))
import torch
children = Path(f"/proc/self/task/{{os.getpid()}}/children").read_text()
print(len(os.listdir("/proc/self/task")), children, torch.cuda.is_initialized(), forked.cuda_is_initialised())
"""


@pytest.mark.parametrize("more", [[], ["optim.name=adamw", "train.compile=true"]])
def test_what_is_loaded_before_the_fork_starts_nothing(more: list[str]) -> None:
    """Neither a thread, whose locks a fork would inherit, nor a process, nor CUDA."""
    program = LOADED.format(settings=more)
    variables = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "False", "False"], done.stderr


CUDA = "int cuDeviceGetCount(int *count) { *count = 1; return %d; }"
ASKED = """
import ctypes, os, sys
from launch import forked
for library in sys.argv[1:]:
    sys.stdout.flush()
    if os.fork() == 0:
        ctypes.CDLL(library)
        print(forked.cuda_is_initialised(), flush=True)
        os._exit(0)
    os.wait()
"""


def test_ranks_are_not_forked_where_cuda_is_initialised(tmp_path: Path) -> None:
    libraries = []
    for answer in (0, 3):
        source, library = tmp_path / f"{answer}.c", tmp_path / str(answer) / "libcuda.so.1"
        source.write_text(CUDA % answer)
        library.parent.mkdir()
        build = ["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(library), str(source)]
        if subprocess.run(build, check=False).returncode:
            pytest.skip("no gcc")
        libraries.append(str(library))
    done = subprocess.run([sys.executable, "-c", ASKED, *libraries], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_what_cannot_be_forked_is_started_torchrun_s_way_and_says_so(small: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    code, output, errors = ended(start(OURS, settings(small, tmp_path), PYTHON_EXEC=str(python)))
    assert code == 0
    assert "world    2 ranks" in output
    assert errors == f"warning: PYTHON_EXEC={python} is another Python: every rank imports torch by itself\n"
    assert forked.why_not(sys.executable, ("-u", "-m", "src.train"), object()).startswith("--numa-binding")
    assert (
        forked.why_not(sys.executable, ("-u", "job.py", "src.train"), None) == "-u job.py src.train is not -m src.train"
    )
    assert forked.why_not(sys.executable, ("-u", "-m", "src.train", "a=1"), None) == ""


def test_torchrun_s_options_of_output_work(small: str, tmp_path: Path) -> None:
    """--tee and --redirects: the rank's output goes through files."""
    launcher = (*OURS, "--tee=0:3,1:3", f"--log-dir={tmp_path}/logs")
    code, output, errors = ended(start(launcher, settings(small, tmp_path)))
    assert (code, "[default0]:world    2 ranks" in output) == (0, True), output + errors
    assert "world    2 ranks" in next((tmp_path / "logs").rglob("attempt_0/0/stdout.log")).read_text()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["data.root=/none"], 2, r"error: .*/none.*\n"),
        (["model.name=/none.py"], 2, r"error: model.name=/none.py: .*\n"),
        (["model.name={folder}/bad.py"], 1, r"(?s)Traceback.*ZeroDivisionError.*"),
    ],
)
def test_an_error_in_the_ranks_is_reported_once(
    more: list[str], code: int, said: str, small: str, tmp_path: Path
) -> None:
    (tmp_path / "bad.py").write_text("1 / 0\n")
    job = start(OURS, settings(small, tmp_path, *(word.format(folder=tmp_path) for word in more)))
    ended_with, output, errors = ended(job)
    assert ended_with == code, output + errors
    assert re.fullmatch(said, errors), errors
    assert errors.count("Traceback (most recent call last)") == said.count("Traceback")


def test_a_killed_rank_is_replaced_and_its_socket_s_are_its_own(small: str, tmp_path: Path) -> None:
    """--max-restarts: the same process of torchrun forks the ranks anew; they hold none of its sockets."""
    job = start((*OURS, "--max-restarts=1"), settings(small, tmp_path, "train.epochs=60", "log.every=10"))
    record = tmp_path / "r" / "metrics.jsonl"
    while max((line["step"] for line in jsonl.read(record)), default=0) < 50:
        assert job.poll() is None, job.communicate()
        time.sleep(0.02)
    ranks = {environment(pid)["RANK"]: pid for pid in family(job.pid)[1:]}
    assert not sockets(job.pid) & sockets(ranks["0"])
    assert sockets(job.pid)
    os.kill(ranks["1"], signal.SIGKILL)
    code, _, errors = ended(job)
    assert code == 0, errors
    assert errors == f"error: rank 1 (pid {ranks['1']}) died\n"
    assert [event["event"] for event in jsonl.read(tmp_path / "r" / "events.jsonl")].count("resume") == 1


def sockets(pid: int) -> set[str]:
    """The sockets that a process holds; it may close one meanwhile."""
    links = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.add(os.readlink(entry))
    return {link for link in links if link.startswith("socket:")}


def test_a_finished_run_is_answered_without_torch(small: str, probed: Path) -> None:
    words = probing(small, probed, OURS[0])
    code, output, errors = ended(start(OURS, words, PYTHONPROFILEIMPORTTIME="1"))
    assert (code, "is finished" in output) == (0, True), output
    assert "launch.torchrun" in errors or "src.train" in errors
    assert not re.search(r"\| +torch$", errors, re.MULTILINE)


def sleep() -> NoReturn:
    """For long."""
    time.sleep(100)
    os._exit(0)


def test_a_process_s_end(monkeypatch: pytest.MonkeyPatch) -> None:
    code = forked.Process(forked.fork(lambda: os._exit(3)))
    assert (code.wait(60), code.poll()) == (3, 3)
    asleep = forked.Process(forked.fork(sleep))
    assert asleep.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        asleep.wait(0.01)
    monkeypatch.delattr(os, "pidfd_open")
    os.kill(asleep.pid, signal.SIGTERM)
    assert asleep.wait(60) == -signal.SIGTERM


def test_what_was_printed_before_is_printed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork has a copy of what the buffer holds."""

    def run() -> NoReturn:
        sys.stdout.flush()
        os._exit(0)

    with (tmp_path / "output").open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        print("once")
        assert forked.Process(forked.fork(run)).wait(60) == 0
        monkeypatch.undo()
    assert (tmp_path / "output").read_text() == "once\n"


def test_no_more_processes_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(UserError, match=r"a rank cannot be started .Resource temporarily"):
        forked.fork(lambda: os._exit(0))
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize(("by_status", "code"), [((), 143), (("--by-status",), 1)])
def test_a_signal_while_torch_is_imported(by_status: tuple[str, ...], code: int, small: str, tmp_path: Path) -> None:
    """It ends the job, with the exit code of its launcher, and no rank starts."""
    launcher = (OURS[0], *by_status, *OURS[1:])
    job = start(launcher, settings(small, tmp_path / "runs"), TMPDIR=str(tmp_path))
    while "libtorch" not in Path(f"/proc/{job.pid}/maps").read_text():
        assert job.poll() is None, job.communicate()
        time.sleep(0.01)
    job.terminate()
    ended_with, output, errors = ended(job)
    assert (ended_with, errors, "world" in output) == (code, "", False)
    assert list(tmp_path.iterdir()) == []
