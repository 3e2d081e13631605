"""Questions that every launcher has about a run: its directory, its settings, how many ranks, how the job ended.

    python -m launch.job directory [key=value ...]      the run directory
    python -m launch.job verdict RUN BEFORE CODE        how the job ended, with the exit code for its launcher:
                                                        BEFORE is status.json at the start, CODE torchrun's exit code
    python -m launch.job task FILE N [key=value ...]    the settings of an array's N-th task, each ended by a NUL;
                                                        key=value are those that all tasks share
    python -m launch.job ranks                          how many ranks this host takes
    python -m launch.job host HEAD NODES JOB NODE_RANK MAX_RESTARTS
                                                        the same, for a host of several

Imports no torch: it also runs on a login node, and between two attempts.
"""

import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # `python launch/job.py`: the checkout is where Python finds the rest
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from src import config, environment, leaving
from src.errors import UserError
from src.launchers.variables import whole
from src.run import layout
from src.run.layout import ExitCode, State
from src.schema import Config

NO_FALLBACK = "data.fallback=none"  # an unattended job trains on the data that it was given, or not at all


def check(arguments: list[str]) -> Config:
    """The settings of an unattended job. Raises UserError for settings that such a job must not have."""
    settings = config.parse([NO_FALLBACK, *arguments])
    if settings.data.fallback != "none":
        raise UserError(
            f"data.fallback={settings.data.fallback}: an unattended job must not train on other data",
            fix="leave it out, or choose data.name=digits (for text data.name=sums)",
        )
    if settings.checkpoint.resume == "never":
        raise UserError(
            "checkpoint.resume=never: a job that is restarted would begin at step 0 each time",
            fix="give another run.name= instead",
        )
    return settings


@dataclass(frozen=True)
class Task:
    """The settings of one task of an array, and the number of its line in the file."""

    line: int
    settings: list[str]

    def check(self, file: Path, key: str, common: list[str]) -> Config:
        """As `check` of the common settings and these. Raises UserError that names the file and the line."""
        try:
            return check([*common, *self.settings])
        except UserError as error:
            raise UserError(f"{key}={file}: line {self.line}: {error.message}", error.fix) from None


def tasks(file: Path, key: str) -> list[Task]:
    """The tasks of an array: one line for each task, with shell quoting.

    Empty lines and comments (a word that begins with #, to the end of the line) do not count. Raises UserError that
    names `key`, the option or variable that gave the file.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").replace("\r", "").split("\n")
    except OSError as error:
        raise UserError(f"{key}={file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{key}={file}: is no text in UTF-8 (byte {error.start})") from None
    parsed = []
    for number, line in enumerate(lines, 1):
        try:
            words = [] if line.lstrip().startswith("#") else shlex.split(line)
        except ValueError as error:
            raise UserError(f"{key}={file}: line {number} cannot be read ({str(error).lower()})") from None
        comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
        parsed.append(Task(number, words[:comment]))
    if not (given := [task for task in parsed if task.settings]):
        raise UserError(f"{key}={file}: has no line of settings")
    return given


def task(file: Path, number: str, common: list[str] | None = None) -> list[str]:
    """The settings of the N-th task, counted from 1, which fit the common ones. Raises UserError."""
    given = tasks(file, "ARRAY_FILE")
    at = whole(number) or 0
    if not 1 <= at <= len(given):
        raise UserError(
            f"SLURM_ARRAY_TASK_ID={number}: not a task of ARRAY_FILE={file}",
            fix=f"use sbatch --array=1-{len(given)}",
        )
    if common is not None:
        given[at - 1].check(file, "ARRAY_FILE", common)
    return given[at - 1].settings


def check_host(head: str, nodes: str, job: str, rank: str, restarts: str) -> None:
    """Raises UserError for what launch/node.sh cannot give to torchrun: the values of its variables."""
    usage = "HEAD=host:port NODES=2 NODE_RANK=0 JOB=id launch/node.sh [key=value ...]"
    if not head or not nodes or not job:
        raise UserError(f"HEAD={head} NODES={nodes} JOB={job}: all three are needed", fix=usage)
    if not re.fullmatch(r"\S+:[0-9]{1,5}", head):
        raise UserError(f"HEAD={head}: must be host:port, the same on all hosts", fix=usage)
    least, _, most = nodes.partition(":")
    numbers = (whole(least), whole(most or least))
    if not numbers[0] or not numbers[1] or numbers[0] > numbers[1]:
        raise UserError(f"NODES={nodes}: must be a number of hosts, or least:most", fix=usage)
    number = whole(rank)
    if number is None or number >= numbers[1]:
        raise UserError(f"NODE_RANK={rank}: the hosts of NODES={nodes} are numbered from 0 to {numbers[1] - 1}")
    if whole(restarts) is None:
        raise UserError(f"MAX_RESTARTS={restarts}: must be a whole number")


def verdict(before: dict[str, Any], after: dict[str, Any], code: int) -> tuple[ExitCode, str]:
    """(exit code for the launcher, one line) for a job; status.json was `before` at its start and is `after` now.

    `code` is torchrun's exit code. It decides only if the job did not write status.json, because torchrun exits with
    1 even if all ranks saved and stopped. TRY_AGAIN means: run the same command again. It requires that the run is
    not finished and that its last checkpoint is newer than at the start; a job that always fails is not repeated.
    """
    state, step, reason = after.get("state"), after.get("step", 0), after.get("reason", "")
    if after == before:
        if state == State.FINISHED and code == 0:
            return ExitCode.FINISHED, "was finished already"
        if code == ExitCode.TRY_AGAIN:
            return ExitCode.TRY_AGAIN, "could not start or save yet: the error above says why"
        return ExitCode.FAILED, f"failed at the start (exit code {code})"
    if state == State.FINISHED:
        return ExitCode.FINISHED, f"finished at step {step}"
    if not after.get("restart", True):
        return ExitCode.STOPPED, f"stopped by the user at step {step} ({reason}); run the same command to continue"
    how = "failed" if state == State.FAILED else "interrupted"
    how = f"{how} ({reason or 'killed'}), saved at step {step}"
    if step > before.get("step", 0):
        return ExitCode.TRY_AGAIN, how
    return ExitCode.FAILED, f"{how}: no progress since the start"


def at_start(before: dict[str, Any], run: Path) -> dict[str, Any]:
    """status.json as it was at the start; of a disk that was empty then, what the mirror brought back.

    So a job that fails on each new machine at the step that it began with has made no progress.
    """
    step = layout.read_mirror(run).get(layout.BROUGHT) or 0
    return before | {"step": step} if step > before.get("step", 0) else before


def main() -> None:
    """Answer one question; a UserError is one line and ExitCode.MISTAKE."""
    question, *arguments = sys.argv[1:] or ["--help"]
    try:
        if question == "directory":
            print(layout.directory(check(arguments)))
        elif question == "ranks" and not arguments:
            print(environment.ranks_per_node())
        elif question == "host" and len(arguments) == 5:
            check_host(*arguments)
            print(environment.ranks_per_node())
        elif question == "task" and len(arguments) >= 2:
            file, number, *common = arguments
            print("".join(f"{word}\0" for word in task(Path(file), number, common)), end="")
        elif question == "verdict" and len(arguments) == 3:
            run, before, code = arguments
            answer, text = verdict(
                at_start(json.loads(before or "{}"), Path(run)), layout.read_status(Path(run)), int(code)
            )
            print(f"{run}: {text}", flush=True)
            raise SystemExit(answer)
        else:
            known = "directory, verdict, task, ranks or host; see the docstring of launch/job.py"
            raise UserError(f"{question}: unknown question", fix=f"ask {known}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(ExitCode.MISTAKE) from None


if __name__ == "__main__":
    leaving.run_and_leave(main)
