"""Submit a run to Slurm, after checking its settings.

    python -m launch.submit --nodes 2 --gpus-per-node 8 --time 01:00:00 [--partition P] [--dry-run] [key=value ...]
    python -m launch.submit --array settings.txt ...      one run for each line of the file; key=value are common

The job runs launch/slurm.sbatch of this checkout. The folder launch/ of the run's directory keeps the submitted
script, the settings, and the commit with its uncommitted changes.
"""

import argparse
import hashlib
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # `python launch/submit.py`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from launch import job, preview
from src import config, files, leaving
from src.addresses import without_secrets
from src.errors import UserError
from src.run import layout
from src.run.layout import ExitCode
from src.schema import Config

ROOT = Path(__file__).resolve().parent.parent
TIME = re.compile(r"(?:(?P<d>\d+)-)?(?P<a>\d+)(?::(?P<b>\d+))?(?::(?P<c>\d+))?")
PLACES = ("partition", "account", "qos", "constraint", "reservation")  # where a job runs: SBATCH_ACCOUNT is a default
# What launch/ sets itself, or takes from an option of this program.
OPTIONS = {"RANKS_PER_NODE": "--ranks-per-node", "IMAGE": "--image", "ARRAY_FILE": "--array"}
OPTIONS |= {"MAX_REQUEUES": "--max-requeues"}
OF_ANOTHER_JOB = re.compile(
    r"(SLURM|SBATCH|SRUN|SALLOC|OMPI|PMI|PMIX|PET|TORCHELASTIC)_.*|SLURMD_NODENAME|CUDA_VISIBLE_DEVICES"
    r"|(LOCAL_|GROUP_|ROLE_|NODE_)?RANK|(LOCAL_|GROUP_|ROLE_)?WORLD_SIZE|MASTER_(ADDR|PORT)"
    rf"|HEAD|NODES|JOB|ADDRESS|BY_STATUS|JOB_COMPLETION_INDEX|{'|'.join(OPTIONS)}"
)
OF_THE_CLUSTER = re.compile(r"SLURM_(CONF\w*|JWT|CLUSTERS|SACK\w*|TIME_FORMAT|DEBUG\w*)")
MIN_WARNING_SECONDS = 60  # Slurm looks every 30 s which jobs to warn


@dataclass(frozen=True)
class Submission:
    """What sbatch gets and the folder keeps: the script, and other files as text by name. `runs` are directories."""

    folder: Path
    script: str
    files: dict[str, str]
    runs: list[Path]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="python -m launch.submit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--nodes", type=_positive, default=1, help="number of nodes (default 1)")
    options.add_argument("--gpus-per-node", type=_positive, help="GPUs, and ranks, on each node")
    options.add_argument("--ranks-per-node", type=_positive, help="ranks on each node, without GPUs")
    options.add_argument("--cpus-per-node", type=_positive, help="CPUs on each node (default ranks x train.threads)")
    options.add_argument("--time", default="01:00:00", help="time limit of one attempt, D-HH:MM:SS")
    options.add_argument("--warn", type=_positive, default=90, help="seconds before the time limit to save and requeue")
    options.add_argument("--max-requeues", type=_positive, default=20, help="most restarts of the job")
    options.add_argument("--name", default="train", help="name of the Slurm job")
    for option in ("partition", "account", "qos", "mem", "constraint", "reservation", "dependency"):
        options.add_argument(f"--{option}", help="as sbatch's")
    options.add_argument("--image", help="container image to run with apptainer, instead of .venv")
    options.add_argument("--array", type=files.path, metavar="FILE", help="a file of settings: one run for each line")
    options.add_argument("--at-once", type=_positive, help="most tasks of an array that run at the same time")
    options.add_argument(
        "--dry-run", action="store_true", help="print the script and what would happen; write and submit nothing"
    )
    options.add_argument("settings", nargs="*", metavar="key=value", help="as src.train's")
    return options


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 1")
    return int(text)


def plan(options: argparse.Namespace) -> Submission:
    """Check options and settings, and compose the script; writes nothing. Raises UserError."""
    seconds = _seconds(options.time)
    if not MIN_WARNING_SECONDS <= options.warn < seconds:
        raise UserError(
            f"--warn={options.warn}: must be from {MIN_WARNING_SECONDS} s (Slurm looks every 30 s) to less than "
            f"--time={options.time} ({seconds} s)"
        )
    tasks = job.tasks(options.array, "--array") if options.array else [job.Task(0, [])]
    checked = [_checked(task, options) for task in tasks]
    runs = [layout.directory(settings) for settings in checked]
    if repeated := {run for run in runs if runs.count(run) > 1}:
        numbers = [str(task.line) for task, run in zip(tasks, runs, strict=True) if run in repeated]
        which = f"lines {', '.join(numbers)}: several lines are the same run ({', '.join(sorted(map(str, repeated)))})"
        raise UserError(f"--array={options.array}: {which}")
    folder = runs[0] / "launch"
    files = {"code.txt": _code()}
    if options.array:
        lines = "".join(shlex.join(task.settings) + "\n" for task in tasks)
        words = [[*options.settings, *task.settings] for task in tasks]
        array_name = f"array-{hashlib.sha256(repr(words).encode()).hexdigest()[:8]}"
        folder, files["settings.txt"] = Path(checked[0].run.root) / array_name, lines
    else:
        files["config.yaml"] = config.as_yaml(checked[0])
    folder = (ROOT / folder).resolve()
    return Submission(folder, _script(options, folder, checked[0], len(tasks)), files, runs)


def _checked(task: job.Task, options: argparse.Namespace) -> Config:
    """The settings of a run. Raises UserError, with its line of an array, if they do not fit the nodes."""
    if not options.array:
        return _fitting(job.check(options.settings), options)
    checked = task.check(options.array, "--array", options.settings)
    try:
        return _fitting(checked, options)
    except UserError as error:
        raise UserError(f"--array={options.array}: line {task.line}: {error.message}", error.fix) from None


def _fitting(checked: Config, options: argparse.Namespace) -> Config:
    """The settings, if they fit the nodes. Raises UserError."""
    gpus, wanted, device = options.gpus_per_node, options.ranks_per_node, checked.train.device
    ranks = options.nodes * (_ranks_per_node(options) or options.cpus_per_node or 1)
    if checked.train.sync == "bitwise" and ranks > checked.train.shards:
        raise UserError(
            f"train.shards={checked.train.shards}: {ranks} ranks cannot share them",
            fix="raise it, or start fewer ranks",
        )
    if device == "cuda" and not gpus:
        raise UserError("train.device=cuda: no GPUs requested", fix="add --gpus-per-node=")
    if device == "cpu" and gpus:
        raise UserError(
            f"train.device=cpu: --gpus-per-node={gpus} would be idle",
            fix="leave one of them out; --ranks-per-node= is the number of ranks on CPUs",
        )
    if gpus and wanted and gpus != wanted:
        raise UserError(
            f"--gpus-per-node={gpus} --ranks-per-node={wanted}: a node has a rank for each GPU", fix="leave one out"
        )
    return checked


def _seconds(text: str) -> int:
    """Seconds of a time in Slurm's notation: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S. Raises UserError."""
    match = TIME.fullmatch(text)
    if not match:
        raise UserError(f"--time={text}: write minutes, HH:MM:SS or D-HH:MM:SS")
    days, *rest = (int(value) if value else 0 for value in match.group("d", "a", "b", "c"))
    if match["d"] is None and match["c"] is None:
        rest = [0, *rest[:2]]
    hours, minutes, seconds = rest
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _code() -> str:
    """The commit, and the uncommitted changes as a diff."""
    try:
        commit = subprocess.run(["git", "log", "-1", "--format=%H %cI %s"], cwd=ROOT, capture_output=True, text=True)
        changes = subprocess.run(["git", "diff", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return "no git here\n"
    return f"{commit.stdout}\n{changes.stdout}"


def _ranks_per_node(options: argparse.Namespace) -> int | None:
    """As `launch.job ranks` will decide on the node; None if its CPUs decide."""
    ranks: int | None = options.gpus_per_node or options.ranks_per_node
    return ranks


def _script(options: argparse.Namespace, folder: Path, settings: Config, tasks: int) -> str:
    """The batch script. It repeats slurm.sbatch's directives: sbatch reads only those of the script it is given."""
    ranks = _ranks_per_node(options)
    cpus = options.cpus_per_node or (ranks and ranks * settings.train.threads)
    output = "slurm-%A_%a.out" if options.array else "slurm-%j.out"
    array = f"1-{tasks}" + (f"%{options.at_once}" if options.at_once else "") if options.array else None
    directives = {
        "job-name": options.name,
        **_places(options),
        **{name: getattr(options, name) for name in ("mem", "dependency", "nodes")},
        "ntasks-per-node": 1,
        "cpus-per-task": cpus,
        "gpus-per-node": options.gpus_per_node,
        "time": options.time,
        "signal": f"USR1@{options.warn}",
        "array": array,
        "open-mode": "append",
        "chdir": ROOT,
        "output": f"{str(folder).replace('%', '%%')}/{output}",
    }
    variables = {
        "MAX_REQUEUES": options.max_requeues,
        "RANKS_PER_NODE": options.ranks_per_node,
        "IMAGE": options.image,
        "ARRAY_FILE": folder / "settings.txt" if options.array else None,
    }
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            *(f"#SBATCH --{name}={shlex.quote(str(value))}" for name, value in directives.items() if value is not None),
            "#SBATCH --requeue",
            f"export SLURM_SUBMIT_DIR={shlex.quote(str(ROOT))}",
            *(f"export {name}={shlex.quote(str(value))}" for name, value in variables.items() if value is not None),
            # Not exec: Slurm knows this shell by its pid.
            shlex.join(["source", "launch/slurm.sbatch", *options.settings]),
            "",
        ]
    )


def _places(options: argparse.Namespace) -> dict[str, str | None]:
    return {name: _or_by_default(name, getattr(options, name)) for name in PLACES}


def _or_by_default(name: str, given: str | None) -> str | None:
    """The option, or sbatch's own variable for it; inside another job the variable may be that job's."""
    default = os.environ.get(f"SBATCH_{name.upper()}") or None
    return given or (None if "SLURM_JOB_ID" in os.environ else default)


def environment() -> dict[str, str]:
    """The environment for sbatch, which hands it to the job: without what another job has left in it."""

    def stays(name: str) -> bool:
        return bool(OF_THE_CLUSTER.fullmatch(name)) or not OF_ANOTHER_JOB.fullmatch(name)

    return {name: value for name, value in os.environ.items() if stays(name)}


def _warn_of_variables() -> None:
    """Say which variables a user may have meant for this job, and does not get."""
    ignored = {name: option for name, option in OPTIONS.items() if os.environ.get(name)}
    if "SLURM_JOB_ID" in os.environ:
        ignored |= {f"SBATCH_{name.upper()}": f"--{name}" for name in PLACES if f"SBATCH_{name.upper()}" in os.environ}
    for name, option in ignored.items():
        print(f"warning: {name}={os.environ[name]}: not passed on to the job; {option}= is", file=sys.stderr)


def submit(planned: Submission) -> str:
    """Write the files and submit the script; returns the job's number. Raises UserError if sbatch refuses."""
    planned.folder.mkdir(parents=True, exist_ok=True)
    for name, text in (planned.files | {"job.sbatch": planned.script}).items():
        (planned.folder / name).touch(0o600 if without_secrets(text) != text else 0o666)
        (planned.folder / name).write_text(text, encoding="utf-8")
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", str(planned.folder / "job.sbatch")],
            env=environment(),
            capture_output=True,
            text=True,
        )
    except OSError:
        raise UserError(
            "sbatch: not found", fix="submit from a login node of the cluster (--dry-run works anywhere)"
        ) from None
    if done.returncode:
        raise UserError(f"sbatch refuses: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
    return done.stdout.strip().partition(";")[0]


def main() -> None:
    """Submit, and print how to watch and stop the job; a UserError is one line and ExitCode.MISTAKE."""
    options = parser().parse_intermixed_args()
    os.chdir(ROOT)
    try:
        planned = plan(options)
        _warn_of_variables()
        if options.dry_run:
            print(without_secrets(planned.script), end="", flush=True)
            tried = [*options.settings, *(job.tasks(options.array, "--array")[0].settings if options.array else [])]
            lines = [f"dry run  nothing is written or submitted; this would be: sbatch {planned.folder / 'job.sbatch'}"]
            lines += [*preview.runs(planned.runs), preview.trial(options, _places(options), tried)]
            print(without_secrets("\n".join(lines)), file=sys.stderr)
            return
        number = submit(planned)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(ExitCode.MISTAKE) from None
    output = "slurm-*.out" if options.array else f"slurm-{number}.out"
    print(f"job      {number}" + (f", {len(planned.runs)} tasks" if options.array else f", run {planned.runs[0]}"))
    print(f"watch    squeue -j {number}; tail -F {shlex.quote(str(planned.folder))}/{output}")
    print(f"stop     scancel {number} (saves first); touch {shlex.quote(str(planned.runs[0]))}/STOP (saves and ends)")


if __name__ == "__main__":
    leaving.run_and_leave(main)
