"""The launch scripts as they are started: local.sh, and slurm.sbatch with a Slurm made of three small scripts.

A real Slurm is in tests/slurm.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launch.job import at_start, task, verdict
from src.errors import UserError
from src.run import jsonl
from src.run.layout import ExitCode, read_status
from tests.helpers.processes import environment, family
from tests.helpers.ranks import ROOT

SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do shift; done
echo "$*" >>"$FAKES/srun.told"
SLURM_NODEID=0 exec ${INSTEAD:-"$@"}
"""
SCONTROL = """#!/bin/bash
[[ $* != "show job"* ]] || { echo "${FACTS:-}"; exit; }
[[ $1 != show ]] || { echo 127.0.0.1; exit; }
echo "$*" >>"$FAKES/scontrol.told"
kill -9 "$PPID"  # Slurm ends the batch script of a job that is requeued
"""


def running(variables: dict[str, str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "WANDB_"))}
    return kept | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"} | variables


def local(*words: str, **variables: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        ["launch/local.sh", *words, "track.wandb=disabled", "log.seconds=0"],
        cwd=ROOT,
        env=running(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_local_trains_and_leaves_no_folder_behind(small: str, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    settings = ("data.name=idx", f"data.root={small}", f"run.root={tmp_path}", "run.name=a", "train.epochs=1")
    job = local("2", *settings, TMPDIR=str(tmp_path / "tmp"))
    output, errors = job.communicate(timeout=240)
    assert (job.returncode, errors) == (0, "")
    assert "world    2 ranks" in output
    assert list((tmp_path / "tmp").iterdir()) == []


def test_local_prints_a_mistake_once(tmp_path: Path) -> None:
    job = local("3", "optim.lrr=1")
    output, errors = job.communicate(timeout=240)
    assert (job.returncode, output) == (2, "")
    assert errors == "error: optim.lrr=1: unknown key; did you mean optim.lr?\n"
    job = local("0")
    assert job.communicate(timeout=240)[1] == "error: 0 ranks: must be at least 1\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow(seconds=6))])
def test_a_signal_to_local_saves(number: signal.Signals, small: str, tmp_path: Path) -> None:
    settings = ("data.name=idx", f"data.root={small}", f"run.root={tmp_path}", "run.name=a", "train.epochs=5000")
    job = local("2", *settings, "log.every=1")
    while not list(jsonl.read(tmp_path / "a" / "metrics.jsonl")):
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    if number == signal.SIGTERM:
        job.send_signal(number)
    else:  # as Slurm does: to every process of the job
        for pid in family(job.pid):
            os.kill(pid, number)
    output, errors = job.communicate(timeout=240)
    status = read_status(tmp_path / "a")
    assert (status["state"], status["reason"]) == ("preempted", number.name), output + errors
    assert "Traceback" not in errors


def test_a_signal_during_the_start_is_honoured_later(small: str, tmp_path: Path) -> None:
    settings = ("data.name=idx", f"data.root={small}", f"run.root={tmp_path}", "run.name=a", "train.epochs=5000")
    job = local("2", *settings)
    while len(family(job.pid)) < 3:
        assert job.poll() is None, job.communicate()
        time.sleep(0.01)
    assert not (tmp_path / "a").exists()
    for pid in family(job.pid):
        os.kill(pid, signal.SIGUSR1)
    output, errors = job.communicate(timeout=240)
    status = read_status(tmp_path / "a")
    assert (status["state"], status["reason"]) == ("preempted", "SIGUSR1"), output + errors


class Slurm:
    """slurm.sbatch as a cluster would start it; `instead` takes the place of the training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def batch(self, *settings: str, instead: str = "", **variables: str) -> "subprocess.CompletedProcess[str]":
        given = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "FAKES": str(self.folder),
            "INSTEAD": instead,
            "SLURM_JOB_ID": "77",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_JOB_NODELIST": "here",
            "SLURM_CPUS_ON_NODE": "2",
            "SLURM_SUBMIT_DIR": str(ROOT),
        }
        return subprocess.run(
            ["bash", "launch/slurm.sbatch", *settings, "track.wandb=disabled", "run.name=a"],
            cwd=ROOT,
            env=running(given | variables),
            capture_output=True,
            text=True,
            timeout=240,
        )

    def told(self, program: str) -> list[str]:
        file = self.folder / f"{program}.told"
        return file.read_text().splitlines() if file.exists() else []


SAVED = {"state": "preempted", "step": 100, "reason": "SIGUSR1"}


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    (tmp_path / "bin").mkdir()
    return Slurm(tmp_path / "bin")


def leaves(run: Path, **status: Any) -> str:
    """A command that leaves this status.json."""
    run.mkdir(parents=True, exist_ok=True)
    (run / "next.json").write_text(json.dumps(status))
    return f"cp {run / 'next.json'} {run / 'status.json'}"


def test_slurm_trains_to_the_end(slurm: Slurm, small: str, tmp_path: Path) -> None:
    settings = ("data.name=idx", f"data.root={small}", f"run.root={tmp_path}", "train.epochs=1")
    done = slurm.batch(*settings)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{tmp_path / 'a'}: finished at step 16" in done.stdout
    assert "world    2 ranks" in done.stdout  # the CPUs that Slurm granted
    assert read_status(tmp_path / "a")["state"] == "finished"
    assert next(event["job"] for event in jsonl.read(tmp_path / "a" / "events.jsonl")) == "77"
    assert slurm.told("srun")[0].startswith("launch/node.sh data.fallback=none data.name=idx")
    assert slurm.told("scontrol") == []
    assert "was finished already" in slurm.batch(*settings).stdout


def test_a_dry_run_in_a_job_leaves_no_trace(slurm: Slurm, small: str, tmp_path: Path) -> None:
    done = slurm.batch("--dry-run", "data.name=idx", f"data.root={small}", f"run.root={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert slurm.told("srun")[0].startswith("launch/node.sh --dry-run data.fallback=none data.name=idx")
    assert "world    2 ranks" in done.stdout
    assert not (tmp_path / "runs").exists()
    done = slurm.batch("--dry-run", f"run.root={tmp_path / 'runs'}", instead="false")
    assert done.returncode == 1
    assert "failed at the start" not in done.stdout, "no verdict by status.json, which it does not leave"
    assert slurm.told("scontrol") == []


def test_ranks_of_a_node(slurm: Slurm, tmp_path: Path) -> None:
    """The GPUs, else RANKS_PER_NODE, else the CPUs; read from the torchrun command that node.sh would run."""
    (slurm.folder / "python").write_text('#!/bin/bash\n[[ $2 != launch.job ]] || exec "$REAL" "$@"\necho "$@"\n')
    (slurm.folder / "python").chmod(0o755)
    fake = {"PYTHON": str(slurm.folder / "python"), "REAL": sys.executable}
    for variables, ranks in (
        ({}, 2),
        ({"RANKS_PER_NODE": "3"}, 3),
        ({"RANKS_PER_NODE": "3", "SLURM_GPUS_ON_NODE": "4"}, 4),
    ):
        done = slurm.batch(f"run.root={tmp_path}", **fake, **variables)
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("-m launch.torchrun")]
        assert f"--nproc-per-node={ranks} " in line
        assert "--rdzv-endpoint=127.0.0.1:20077 --rdzv-id=77.0 " in line


def test_a_preempted_run_is_requeued_a_limited_number_of_times(slurm: Slurm, tmp_path: Path) -> None:
    preempted = leaves(tmp_path / "a", state="preempted", step=100, reason="SIGUSR1")
    done = slurm.batch(f"run.root={tmp_path}", instead=preempted)
    assert slurm.told("scontrol") == ["requeue 77"], done.stdout + done.stderr
    assert "interrupted (SIGUSR1), saved at step 100" in done.stdout
    done = slurm.batch(f"run.root={tmp_path}", instead=preempted, SLURM_RESTART_COUNT="1")
    assert done.returncode == 1, "no further than at its start"
    (tmp_path / "a" / "status.json").unlink()
    done = slurm.batch(f"run.root={tmp_path}", instead=preempted, SLURM_RESTART_COUNT="5", MAX_REQUEUES="5")
    assert done.returncode == 75
    assert "is not requeued again (MAX_REQUEUES=5); submit the same command to continue" in done.stdout
    assert slurm.told("scontrol") == ["requeue 77"]


FACTS = """JobId=77 {array}JobName=train
   Requeue=1 Restarts={restarts} BatchFlag=1 Reboot=0 ExitCode=0:0
   StartTime=2026-11-26T00:31:27 EndTime={end} Deadline=N/A
   NumNodes=1 NumCPUs=2 NumTasks=1 CPUs/Task=2 ReqB:S:C:T=0:0:*:*
   TRES=cpu=2,node=1,billing=2{gpus}"""
PARENT = {
    "SLURM_ARRAY_JOB_ID": "5",
    "SLURM_ARRAY_TASK_ID": "2",
    "SLURM_RESTART_COUNT": "20",
    "SLURM_GPUS_ON_NODE": "8",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "64",
    "SLURM_JOB_END_TIME": "1",
    "NODE_RANK": "1",
    "BY_STATUS": "1",
}


def test_a_job_from_inside_another_one_is_itself(slurm: Slurm, tmp_path: Path) -> None:
    """Slurm hands the variables of the submitting job on: its array, its restarts, its GPUs, its file."""
    facts = FACTS.format(array="", restarts=3, end="2199-01-01T00:00:00", gpus="")
    (slurm.folder / "note").write_text("#!/bin/bash\nenv >>$FAKES/environment\n" + leaves(tmp_path / "a", **SAVED))
    (slurm.folder / "note").chmod(0o755)
    parent = PARENT | {"ARRAY_FILE": str(tmp_path / "gone.txt"), "FACTS": facts, "instead": str(slurm.folder / "note")}
    done = slurm.batch(f"run.root={tmp_path}", **parent)
    assert slurm.told("scontrol") == ["requeue 77"], done.stdout + done.stderr
    assert "job 77.3]" in done.stdout, "the third restart, not the parent's twentieth"
    seen = dict(line.split("=", 1) for line in (slurm.folder / "environment").read_text().splitlines() if "=" in line)
    assert seen["JOB"] == "77.3"
    assert int(seen["SLURM_JOB_END_TIME"]) > 7_000_000_000
    assert not {"ARRAY_FILE", "SLURM_ARRAY_TASK_ID", "NODE_RANK", "SLURM_GPUS_ON_NODE", "BY_STATUS"} & seen.keys()
    assert not [name for name in seen if name.startswith("SLURM_STEP")]


def test_what_slurm_says_of_an_array_s_task_with_gpus_stays(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "settings.txt").write_text("optim.lr=0.1\noptim.lr=0.2\n")
    facts = FACTS.format(array="ArrayJobId=5 ArrayTaskId=2 ", restarts=0, end="Unknown", gpus=",gres/gpu=8")
    saved = leaves(tmp_path / "a", **SAVED)
    file = str(tmp_path / "settings.txt")
    done = slurm.batch(f"run.root={tmp_path}", **PARENT, FACTS=facts, ARRAY_FILE=file, instead=saved)
    assert slurm.told("scontrol") == ["requeue 5_2"], done.stdout + done.stderr
    assert slurm.told("srun")[0].endswith("optim.lr=0.2")


def test_an_array_s_mistake_names_its_line(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "settings.txt").write_text("optim.lr=0.1\n\noptim.lrr=0.2\n")
    file = str(tmp_path / "settings.txt")
    done = slurm.batch(f"run.root={tmp_path}", ARRAY_FILE=file, SLURM_ARRAY_TASK_ID="2")
    assert (done.returncode, slurm.told("srun")) == (2, [])
    assert done.stderr.startswith(
        f"error: ARRAY_FILE={file}: line 3: optim.lrr=0.2: unknown key; did you mean optim.lr"
    )


NODE = {"HEAD": "node1:29500", "NODES": "2", "NODE_RANK": "0", "JOB": "x"}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"HEAD": ""}, "HEAD= NODES=2 JOB=x: all three are needed; HEAD=host:port NODES=2 NODE_RANK=0 JOB=id"),
        ({"HEAD": "node1"}, "HEAD=node1: must be host:port"),
        ({"NODES": "many"}, "NODES=many: must be a number of hosts, or least:most"),
        ({"NODES": "4:2"}, "NODES=4:2: must be a number of hosts, or least:most"),
        ({"NODE_RANK": "2"}, "NODE_RANK=2: the hosts of NODES=2 are numbered from 0 to 1"),
        ({"NODE_RANK": "first"}, "NODE_RANK=first: the hosts of NODES=2 are numbered"),
        ({"MAX_RESTARTS": "-1"}, "MAX_RESTARTS=-1: must be a whole number"),
    ],
)
def test_a_host_s_variables_are_checked(variables: dict[str, str], said: str) -> None:
    done = subprocess.run(["launch/node.sh"], cwd=ROOT, env=running(NODE | variables), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {said}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("script", ["local.sh", "node.sh"])
def test_options_of_an_earlier_torchrun_are_not_taken(script: str, tmp_path: Path) -> None:
    """torchrun's PET_NNODES=2 would let one machine wait for another."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/bash\n[[ $2 != launch.job ]] || exec {sys.executable} "$@"\necho "${{!PET_@}}" "$@"\n')
    python.chmod(0o755)
    variables = running(NODE | {"PYTHON": str(python), "PET_NNODES": "2", "PET_RDZV_ID": "old"})
    done = subprocess.run([f"launch/{script}"], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.stderr == f"warning: PET_NNODES PET_RDZV_ID: not used by launch/{script}\n"
    assert done.stdout.startswith("-m launch.torchrun ")


def test_a_run_that_fails_at_once_is_not_requeued(slurm: Slurm, tmp_path: Path) -> None:
    done = slurm.batch(f"run.root={tmp_path}", instead="false")
    assert done.returncode == 1
    assert "failed at the start (exit code 1)" in done.stdout
    assert slurm.told("scontrol") == []


def test_a_mistake_does_not_start_a_job_step(slurm: Slurm, tmp_path: Path) -> None:
    done = slurm.batch("optim.lrr=1")
    assert done.returncode == 2
    assert done.stderr == "error: optim.lrr=1: unknown key; did you mean optim.lr?\n"
    assert slurm.told("srun") == []
    assert "not a checkout" in slurm.batch(SLURM_SUBMIT_DIR=str(tmp_path)).stderr


SETTINGS = """# it's a comment

  # another
optim.lr=0.1 track.notes="two words, [a=b] and 'single'"   # it ends here
'track.notes=it'"'"'s' data.mirrors=[/a,/b] track.tags='[x, y]' track.group=a#b "run.root=# no comment"
"""


def test_a_task_of_an_array_takes_its_line(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "settings.txt").write_text("optim.lr=0.1\n# twice\noptim.lr=0.2 'track.notes=two words'\n")
    array = {"ARRAY_FILE": str(tmp_path / "settings.txt"), "instead": "true"}
    slurm.batch(f"run.root={tmp_path}", **array, SLURM_ARRAY_TASK_ID="2")
    assert slurm.told("srun")[0].endswith("run.name=a optim.lr=0.2 track.notes=two words")
    for number in ("3", ""):  # without its line the task would train with other settings
        done = slurm.batch(f"run.root={tmp_path}", **array, SLURM_ARRAY_TASK_ID=number)
        assert done.returncode == 2
        assert f"error: SLURM_ARRAY_TASK_ID={number}: not a task of ARRAY_FILE=" in done.stderr
    assert len(slurm.told("srun")) == 1


def test_settings_are_quoted_as_in_a_shell(tmp_path: Path) -> None:
    file = tmp_path / "settings.txt"
    file.write_text(SETTINGS)
    assert task(file, "1") == ["optim.lr=0.1", "track.notes=two words, [a=b] and 'single'"]
    second = ["track.notes=it's", "data.mirrors=[/a,/b]", "track.tags=[x, y]", "track.group=a#b"]
    assert task(file, "2") == [*second, "run.root=# no comment"]
    file.write_text("optim.lr=0.1\ntrack.notes='half\n")
    with pytest.raises(UserError, match=r"ARRAY_FILE=.*settings.txt: line 2 cannot be read \(no closing quotation\)"):
        task(file, "1")
    file.write_bytes(b"\xef\xbb\xbfoptim.lr=0.1\r\noptim.lr=0.2\r\n")  # written on Windows
    assert [task(file, number) for number in "12"] == [["optim.lr=0.1"], ["optim.lr=0.2"]]
    file.write_bytes(b"optim.lr=\xff\n")
    with pytest.raises(UserError, match=r"settings.txt: is no text in UTF-8 \(byte 9\)"):
        task(file, "1")


@pytest.mark.parametrize("script", ["local.sh", "node.sh"])
def test_a_python_that_does_not_look_into_its_folder(script: str, tmp_path: Path) -> None:
    """PYTHONSAFEPATH, from a hardened shell or a profile: `python -m` would not find the checkout's modules."""
    variables = {"PYTHONSAFEPATH": "1", "HEAD": "localhost:29511", "NODES": "1", "JOB": "a"}
    call = [f"launch/{script}", "optim.lr=-1", f"run.root={tmp_path}"]
    done = subprocess.run(call, cwd=ROOT, env=running(variables), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: optim.lr=-1: must be above 0\n")


def test_a_missing_python_is_an_error_with_its_fix(tmp_path: Path) -> None:
    done = subprocess.run(["launch/local.sh"], cwd=ROOT, env=running({"PYTHON": "/none"}), capture_output=True)
    assert done.returncode == 2
    assert b"error: PYTHON=/none: not found; run make setup" in done.stderr


@pytest.mark.parametrize(
    ("before", "after", "code", "answer"),
    [
        ({}, {"state": "finished", "step": 9}, 1, ExitCode.FINISHED),
        ({"state": "finished", "step": 9}, {"state": "finished", "step": 9}, 0, ExitCode.FINISHED),
        ({"state": "finished", "step": 9}, {"state": "finished", "step": 9}, 2, ExitCode.FAILED),
        ({}, {}, 1, ExitCode.FAILED),
        ({}, {}, 75, ExitCode.TRY_AGAIN),
        ({"state": "running", "step": 5}, {"state": "running", "step": 5}, 75, ExitCode.TRY_AGAIN),
        (
            {"state": "running", "step": 5},
            {"state": "preempted", "step": 9, "restart": True},
            1,
            ExitCode.TRY_AGAIN,
        ),
        (
            {"state": "running", "step": 5},
            {"state": "preempted", "step": 9, "restart": False},
            0,
            ExitCode.STOPPED,
        ),
        ({}, {"state": "preempted", "step": 9, "restart": False}, 0, ExitCode.STOPPED),
        ({}, {"state": "preempted", "step": 9, "restart": True}, 0, ExitCode.TRY_AGAIN),
        ({"step": 5}, {"state": "running", "step": 9}, 137, ExitCode.TRY_AGAIN),
        ({"step": 5}, {"state": "failed", "step": 9, "reason": "lost a rank"}, 1, ExitCode.TRY_AGAIN),
        ({"step": 9}, {"state": "failed", "step": 9, "reason": "lost a rank"}, 1, ExitCode.FAILED),
    ],
)
def test_the_exit_code_follows_from_status_json(
    before: dict[str, Any], after: dict[str, Any], code: int, answer: int
) -> None:
    assert verdict(before, after, code)[0] == answer


def test_what_a_mirror_brought_back_is_no_progress(tmp_path: Path) -> None:
    failed = {"state": "failed", "step": 9}
    assert verdict(at_start({}, tmp_path), failed, 1)[0] == ExitCode.TRY_AGAIN
    (tmp_path / "mirror.json").write_text('{"id": "a", "brought_back": 9}')
    assert verdict(at_start({}, tmp_path), failed, 1)[0] == ExitCode.FAILED
    assert verdict(at_start({}, tmp_path), failed | {"step": 10}, 1)[0] == ExitCode.TRY_AGAIN
    assert at_start({"step": 12}, tmp_path) == {"step": 12}


@pytest.mark.parametrize("exchange", ["shared_memory", "backend"])
def test_a_rank_0_that_is_killed_is_named_in_a_line_each(exchange: str, small: str, tmp_path: Path) -> None:
    settings = ("data.name=idx", f"data.root={small}", f"run.root={tmp_path}", "run.name=a", "train.epochs=5000")
    job = local("2", *settings, "log.every=1", f"train.exchange={exchange}")
    while not list(jsonl.read(tmp_path / "a" / "metrics.jsonl")):
        assert job.poll() is None, job.communicate()
        time.sleep(0.05)
    ranks = {environment(pid).get("RANK"): pid for pid in family(job.pid)}
    os.kill(ranks["0"], signal.SIGKILL)
    printed, errors = job.communicate(timeout=240)
    assert re.search(rf"^killed   the same command .* at step \d+; {tmp_path}/a/report\.html$", printed, re.MULTILINE)
    page = (tmp_path / "a" / "report.html").read_text()
    assert '"state":"killed"' in page, "nobody but the launcher is left to write it"
    lines = errors.splitlines()
    assert f"error: rank 0 (pid {ranks['0']}) died" in lines, errors
    assert lines[-1].startswith("error: rank 0 failed (exit code -9)"), errors
    assert len(lines) == 2, errors
