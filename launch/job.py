"""Questions that every launcher has about a run: its directory, its settings, how many ranks, how the job ended.

    python -m launch.job directory [key=value ...]      the run directory
    python -m launch.job verdict RUN BEFORE CODE        how the job ended, with the exit code for its launcher:
                                                        BEFORE is status.json at the start, CODE torchrun's exit code
    python -m launch.job task FILE N                    the settings of an array's N-th task, each ended by a NUL
    python -m launch.job ranks                          how many ranks this host takes

Imports no torch: it also runs on a login node, and between two attempts.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from src import config, environment
from src.errors import UserError
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


def tasks(file: Path, key: str) -> list[list[str]]:
    """The settings of each task of an array: one line for each task, with shell quoting.

    Empty lines and comments (a word that begins with #, to the end of the line) do not count. Raises UserError that
    names `key`, the option or variable that gave the file.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{key}={file}: cannot be read ({error.strerror})") from None
    parsed = []
    for number, line in enumerate(lines, 1):
        try:
            words = [] if line.lstrip().startswith("#") else shlex.split(line)
        except ValueError as error:
            raise UserError(f"{key}={file}: line {number} cannot be read ({str(error).lower()})") from None
        comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
        parsed.append(words[:comment])
    if not (settings := [words for words in parsed if words]):
        raise UserError(f"{key}={file}: has no line of settings")
    return settings


def task(file: Path, number: str) -> list[str]:
    """The settings of the N-th task, counted from 1. Raises UserError."""
    settings = tasks(file, "ARRAY_FILE")
    if not number.isdigit() or not 1 <= int(number) <= len(settings):
        raise UserError(
            f"SLURM_ARRAY_TASK_ID={number}: not a task of ARRAY_FILE={file}",
            fix=f"use sbatch --array=1-{len(settings)}",
        )
    return settings[int(number) - 1]


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


def main() -> None:
    """Answer one question; a UserError is one line and ExitCode.MISTAKE."""
    question, *arguments = sys.argv[1:] or ["--help"]
    try:
        if question == "directory":
            print(layout.directory(check(arguments)))
        elif question == "ranks" and not arguments:
            print(environment.ranks_per_node())
        elif question == "task" and len(arguments) == 2:
            print("".join(f"{word}\0" for word in task(Path(arguments[0]), arguments[1])), end="")
        elif question == "verdict" and len(arguments) == 3:
            run, before, code = arguments
            answer, text = verdict(json.loads(before or "{}"), layout.read_status(Path(run)), int(code))
            print(f"{run}: {text}", flush=True)
            raise SystemExit(answer)
        else:
            known = "`directory [key=value ...]`, `verdict RUN BEFORE CODE`, `task FILE N` or `ranks`"
            raise UserError(f"{question}: unknown question", fix=f"ask {known}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(ExitCode.MISTAKE) from None


if __name__ == "__main__":
    main()
