"""What every launcher asks about a run: where it is, whether the settings fit a cluster, how the job ended.

    python -m launch.job directory [key=value ...]      the run directory
    python -m launch.job verdict RUN BEFORE CODE        how it ended, and the exit code below
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


def check(arguments: list[str]) -> Config:
    """The settings, if a job that nobody watches may have them. Raises UserError."""
    settings = config.parse(["data.fallback=none", *arguments])
    if settings.data.fallback != "none":
        raise UserError(
            f"data.fallback={settings.data.fallback}: a job in a queue must not train on something else",
            fix="leave it out, or ask for data.name=digits",
        )
    if settings.checkpoint.resume == "never":
        raise UserError(
            "checkpoint.resume=never: a job that is started again would begin afresh each time",
            fix="give another run.name= instead",
        )
    return settings


def tasks(file: Path, key: str) -> list[list[str]]:
    """The settings of each task of an array: a line each, quoted as in a shell. Raises UserError naming the key.

    Empty lines do not count, nor what a word that begins with # introduces.
    """
    try:
        lines = file.read_text().splitlines()
    except OSError as error:
        raise UserError(f"{key}={file}: cannot be read ({error.strerror})") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            words = [] if line.lstrip().startswith("#") else shlex.split(line)
        except ValueError as error:
            raise UserError(f"{key}={file}: line {number} cannot be read ({str(error).lower()})") from None
        comment = next((at for at, word in enumerate(words) if word.startswith("#")), len(words))
        found.append(words[:comment])
    if not (settings := [words for words in found if words]):
        raise UserError(f"{key}={file}: holds no line of settings")
    return settings


def task(file: Path, number: str) -> list[str]:
    """The settings of the N-th task, counted from 1. Raises UserError."""
    settings = tasks(file, "ARRAY_FILE")
    if not number.isdigit() or not 1 <= int(number) <= len(settings):
        raise UserError(
            f"SLURM_ARRAY_TASK_ID={number}: is no task of ARRAY_FILE={file}",
            fix=f"use sbatch --array=1-{len(settings)}",
        )
    return settings[int(number) - 1]


def verdict(before: dict[str, Any], after: dict[str, Any], code: int) -> tuple[ExitCode, str]:
    """(exit code, one line) for a job that found `before` in status.json and left `after`.

    Its own exit code says little (torchrun leaves with 1 after an orderly stop): it decides only where the
    job did not touch status.json. TRY_AGAIN asks for the same command again: the run is not finished, and its last
    checkpoint is further than when the job began, so that a job that always fails ends.
    """
    state, step, reason = after.get("state"), after.get("step", 0), after.get("reason", "")
    if after == before:
        if state == State.FINISHED and code == 0:
            return ExitCode.FINISHED, "was finished already"
        return ExitCode.FAILED, f"failed at the start (exit code {code})"
    if state == State.FINISHED:
        return ExitCode.FINISHED, f"finished at step {step}"
    if not after.get("restart", True):
        return ExitCode.STOPPED, f"stopped at step {step} as asked ({reason}); the same command goes on"
    how = "failed" if state == State.FAILED else "interrupted"
    how = f"{how} ({reason or 'killed'}), saved at step {step}"
    if step > before.get("step", 0):
        return ExitCode.TRY_AGAIN, how
    return ExitCode.FAILED, f"{how}: no step further than at its start"


def main() -> None:
    """Answer one question; a user's mistake is one line and exit code 2."""
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
            raise UserError(
                f"{question}: ask `directory [key=value ...]`, `verdict RUN BEFORE CODE`, `task FILE N` or `ranks`"
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(ExitCode.MISTAKE) from None


if __name__ == "__main__":
    main()
