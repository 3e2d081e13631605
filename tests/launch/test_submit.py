"""launch.submit: settings are checked before submission, and the script is kept beside the run."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.ranks import ROOT

GOLDEN = Path(__file__).parent / "golden"
FAKE = """#!/bin/bash
printf '%s\\n' "$@" >"$(dirname "$0")/arguments"
env >"$(dirname "$0")/environment"
[[ -z $REFUSE ]] || { echo "sbatch: error: $REFUSE" >&2; exit 1; }
echo "4242;cluster"
"""


@pytest.fixture
def sbatch(tmp_path: Path) -> Path:
    """A folder for PATH with a fake sbatch that writes down its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sbatch").write_text(FAKE)
    (folder / "sbatch").chmod(0o755)
    return folder


def submit(*arguments: str, path: Path | None = None, **variables: str) -> "subprocess.CompletedProcess[str]":
    search = f"{path}:/usr/bin:/bin" if path else "/nowhere"
    return subprocess.run(
        [sys.executable, "-m", "launch.submit", *arguments],
        cwd=ROOT,
        env=os.environ | {"PATH": search} | variables,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.parametrize(
    ("golden", "arguments"),
    [
        (
            "submit-gpus.sbatch",
            ["--nodes=2", "--gpus-per-node=8", "--time=01:00:00", "--partition=p", "optim.lr=0.1", "run.name=golden"],
        ),
        (
            "submit-cpus.sbatch",
            [
                "--ranks-per-node=4",
                "--time=2-0",
                "--warn=300",
                "--account=a",
                "--mem=8G",
                "train.threads=2",
                "run.root=/scratch/it's here",
                "run.name=golden",
                "track.notes=two words",
                "--image=/images/job.sif",
            ],
        ),
    ],
)
def test_the_script_is_the_golden_one(golden: str, arguments: list[str]) -> None:
    """After an intended change, `python -m launch.submit --dry-run ...` prints the new golden file."""
    done = submit("--dry-run", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace(str(ROOT), "/checkout") == (GOLDEN / golden).read_text()
    assert not (ROOT / "runs" / "golden").exists()
    assert subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False).returncode == 0


def test_a_dry_run_says_what_would_happen_and_how_to_ask_the_nodes(tmp_path: Path) -> None:
    for run, step, state in (("a", 0, ""), ("b", 40, "preempted"), ("c", 90, "finished")):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
        (tmp_path / run / "status.json").write_text(json.dumps({"state": state}))
        if step:
            (tmp_path / run / "checkpoints" / f"step-{step:08d}.pt").touch()
    common = ("--dry-run", f"run.root={tmp_path}")
    done = submit(*common, "--nodes=2", "--gpus-per-node=8", "--partition=p", "run.name=b", "track.notes=two words")
    where = "--partition=p --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 --time=10"
    train = f"-m src.train --dry-run data.fallback=none run.root={tmp_path} run.name="
    assert done.stderr.splitlines() == [
        f"dry run  nothing is written or submitted; this would be: sbatch {tmp_path}/b/launch/job.sbatch",
        f"run      {tmp_path}/b (resumes at step 40)",
        f"try it   srun {where} .venv/bin/python {train}b 'track.notes=two words'    # what the ranks would do",
    ]
    (tmp_path / "settings.txt").write_text("run.name=a\nrun.name=c optim.lr=0.1\n")
    told = submit(*common, f"--array={tmp_path / 'settings.txt'}", "--ranks-per-node=2", "--image=/i.sif").stderr
    assert f"{tmp_path}/a (new)\n" in told
    assert f"{tmp_path}/c (finished before: only more epochs would be trained)\n" in told
    python = f"apptainer exec --nv --bind {ROOT} --pwd {ROOT} /i.sif python"
    ask = (
        f"try it   srun --nodes=1 --ntasks-per-node=2 --time=10 {python} {train}a    # what the ranks of the first task"
    )
    assert told.splitlines()[-1] == f"{ask} would do"


def test_an_array_s_script_is_the_golden_one(tmp_path: Path) -> None:
    (tmp_path / "settings.txt").write_text("optim.lr=0.1\n\n# a comment\noptim.lr=0.2 'track.notes=two words'\n")
    done = submit("--dry-run", f"--array={tmp_path / 'settings.txt'}", "--at-once=1", "run.root=runs")
    assert done.stdout.replace(str(ROOT), "/checkout") == (GOLDEN / "submit-array.sbatch").read_text(), done.stderr


def test_a_mirror_s_password_is_used_and_not_shown(sbatch: Path, tmp_path: Path) -> None:
    given = ("--nodes=1", "--ranks-per-node=1", "data.mirrors=[http://me:hunter2@host/x]", f"run.root={tmp_path}/runs")
    shown = submit("--dry-run", *given)
    assert "hunter2" not in shown.stdout + shown.stderr
    done = submit(*given, "run.name=a", path=sbatch)
    assert done.returncode == 0, done.stderr
    (script,) = tmp_path.rglob("job.sbatch")
    assert "hunter2" in script.read_text()
    assert script.stat().st_mode & 0o077 == 0, "only the user may read it"
    readable = [file for file in script.parent.iterdir() if file.stat().st_mode & 0o077]
    assert not [file for file in readable if "hunter2" in file.read_text()]


def test_what_is_submitted_is_kept(sbatch: Path, tmp_path: Path) -> None:
    done = submit("--nodes=2", "--ranks-per-node=2", f"run.root={tmp_path}", "run.name=a", "optim.lr=0.1", path=sbatch)
    assert done.returncode == 0, done.stderr
    kept = tmp_path / "a" / "launch"
    assert {file.name for file in kept.iterdir()} == {"job.sbatch", "config.yaml", "code.txt"}
    assert (sbatch / "arguments").read_text().split() == ["--parsable", str(kept / "job.sbatch")]
    assert "lr: 0.1" in (kept / "config.yaml").read_text()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    assert commit in (kept / "code.txt").read_text()
    printed = done.stdout.splitlines()
    assert printed[0] == f"job      4242, run {tmp_path / 'a'}"
    assert printed[1].startswith("watch    squeue -j 4242; tail -F ")
    assert printed[2].startswith("stop     scancel 4242 ")


def test_a_run_on_text_is_submitted_by_its_own_name(tmp_path: Path) -> None:
    names = []
    for block in (32, 64):
        chosen = ("data.name=text", "model.name=transformer", f"data.block={block}", f"run.root={tmp_path}")
        done = submit("--dry-run", *chosen)
        assert done.returncode == 0, done.stderr
        names += re.findall(r"/(text-\w+)/launch/", done.stdout)
    assert len(set(names)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optim.lrr=0.1"], "error: optim.lrr=0.1: unknown key; did you mean optim.lr?"),
        (["--time=soon"], "error: --time=soon: write minutes, HH:MM:SS or D-HH:MM:SS"),
        (["--warn=30"], "error: --warn=30: must be from 60 s"),
        (["--time=1"], "error: --warn=90: must be from 60 s (Slurm looks every 30 s) to less than --time=1 (60 s)"),
        (["train.sync=bitwise", "--nodes=2", "--ranks-per-node=8"], "error: train.shards=8: 16 ranks cannot share"),
        (
            ["--gpus-per-node=8", "train.device=cpu"],
            "error: train.device=cpu: --gpus-per-node=8 would be idle; leave one of them out",
        ),
        (["--gpus-per-node=8", "--ranks-per-node=4"], "error: --gpus-per-node=8 --ranks-per-node=4: a node has a rank"),
        (["train.device=cuda"], "error: train.device=cuda: no GPUs requested; add --gpus-per-node="),
        (["checkpoint.resume=never"], "error: checkpoint.resume=never: a job that is restarted would begin"),
        (["data.fallback=digits"], "error: data.fallback=digits: an unattended job must not train on other data"),
        (["--array=/none"], "error: --array=/none: cannot be read (No such file or directory)"),
        (["--nodes=0"], "argument --nodes: 0: must be a whole number of at least 1"),
    ],
)
def test_a_mistake_is_reported_before_submission(arguments: list[str], said: str, sbatch: Path, tmp_path: Path) -> None:
    done = submit(f"run.root={tmp_path}", "run.name=a", *arguments, path=sbatch)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (sbatch / "arguments").exists()
    assert not (tmp_path / "a").exists()


def test_an_array_with_the_same_run_twice_is_refused(sbatch: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.txt").write_text("optim.lr=0.1\noptim.lr=0.10\n")
    done = submit(f"--array={tmp_path / 'settings.txt'}", path=sbatch)
    assert done.returncode == 2
    assert f"--array={tmp_path / 'settings.txt'}: lines 1, 2: several lines are the same run (runs/" in done.stderr


@pytest.mark.parametrize(
    ("line", "options", "said"),
    [
        ("optim.lrr=0.2", (), "optim.lrr=0.2: unknown key; did you mean optim.lr?"),
        ("checkpoint.resume=never", (), "checkpoint.resume=never: a job that is restarted would begin at step 0"),
        ("train.device=cuda", (), "train.device=cuda: no GPUs requested; add --gpus-per-node="),
        ("train.device=cpu", ("--gpus-per-node=2",), "train.device=cpu: --gpus-per-node=2 would be idle"),
    ],
)
def test_an_array_s_mistake_names_its_line(line: str, options: tuple[str, ...], said: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.txt"
    file.write_text(f"# two runs\noptim.lr=0.1\n\n{line}\n")
    done = submit("--dry-run", f"--array={file}", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --array={file}: line 4: {said}"), done.stderr


PARENT = {
    "SLURM_JOB_ID": "7",
    "SLURM_ARRAY_TASK_ID": "2",
    "SLURM_NTASKS": "64",
    "SLURM_EXPORT_ENV": "NONE",
    "SBATCH_TIMELIMIT": "1",
    "SBATCH_ARRAY_INX": "1-9",
    "SBATCH_PARTITION": "parent",
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "n1",
    "TORCHELASTIC_RUN_ID": "x",
    "OMPI_COMM_WORLD_SIZE": "2",
    "PMI_RANK": "0",
    "PMIX_NAMESPACE": "x",
    "PET_NNODES": "2",
    "NODE_RANK": "1",
    "HEAD": "n1:1",
    "CUDA_VISIBLE_DEVICES": "3",
    "ARRAY_FILE": "/none",
    "RANKS_PER_NODE": "3",
    "IMAGE": "/old.sif",
    "MAX_REQUEUES": "1",
}


def test_nothing_of_another_job_is_passed_on(sbatch: Path, tmp_path: Path) -> None:
    """sbatch would hand all of it to the new job, and obey SBATCH_* before the script's own directives."""
    kept = {"SLURM_CONF": "/etc/slurm.conf", "PYTHON": "/opt/python", "RDZV_CONF": "timeout=9"}
    done = submit(f"run.root={tmp_path}", "run.name=a", path=sbatch, **PARENT, **kept)
    assert done.returncode == 0, done.stderr
    passed = dict(line.split("=", 1) for line in (sbatch / "environment").read_text().splitlines() if "=" in line)
    assert not PARENT.keys() & passed.keys()
    assert kept.items() <= passed.items()
    assert "parent" not in (tmp_path / "a" / "launch" / "job.sbatch").read_text()
    for name, option in {"RANKS_PER_NODE=3": "--ranks-per-node", "IMAGE=/old.sif": "--image"}.items():
        assert f"warning: {name}: not passed on to the job; {option}= is\n" in done.stderr
    assert "warning: SBATCH_PARTITION=parent: not passed on to the job; --partition= is\n" in done.stderr


def test_where_a_user_s_jobs_run_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """SBATCH_ACCOUNT in a profile: sbatch's own way to say it, which an option of this program overrules."""
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    monkeypatch.setenv("SBATCH_PARTITION", "big")
    done = submit("--dry-run", "--partition=small")
    assert "#SBATCH --account=mine\n" in done.stdout
    assert "#SBATCH --partition=small\n" in done.stdout


def test_an_error_of_sbatch_is_passed_on(sbatch: Path, tmp_path: Path) -> None:
    done = submit(f"run.root={tmp_path}", path=sbatch, REFUSE="Batch job submission failed: Invalid partition")
    assert done.returncode == 2
    assert done.stderr == "error: sbatch refuses: sbatch: error: Batch job submission failed: Invalid partition\n"
    done = submit(f"run.root={tmp_path}")
    assert done.returncode == 2
    assert (
        done.stderr == "error: sbatch: not found; submit from a login node of the cluster (--dry-run works anywhere)\n"
    )
