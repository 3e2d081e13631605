"""The step of a Slurm job that this process is a task of."""

import itertools
import re
import time
import zlib

from src.errors import UserError
from src.launchers.ancestors import Launcher
from src.launchers.variables import Claim, number, text, whole

FIRST_SPECIAL_STEP = 0xFFFFFFF0  # above it: the batch script, an interactive shell, what Slurm runs beside a job
PORTS = range(17_000, 20_000)  # below those of launch/slurm.sbatch and those that Linux gives away
MOST_HOSTS = 100_000
FIX = "unset the SLURM_ variables of an earlier job, or start the ranks with launch/"


def claim(launcher: Launcher | None) -> Claim | None:
    """This task of a step; None outside of one: in a batch script, an allocation's shell, or what they leave behind.

    Raises UserError for variables that no step has.
    """
    if not text("SLURM_PROCID") or not _in_step(launcher):
        return None
    rank, size = number("SLURM_PROCID", FIX), number("SLURM_STEP_NUM_TASKS", FIX)
    named = "SLURM_STEP_NUM_TASKS"
    if size is None:
        size, named = number("SLURM_NTASKS", FIX), "SLURM_NTASKS"
    values = f"SLURM_PROCID={text('SLURM_PROCID')} {named}={text(named)}"
    if rank is None or size is None or rank >= size:
        raise UserError(f"{values}: the number of a task must be below the number of tasks", fix=FIX)
    if size == 1:
        return Claim("srun", values, 0, 1)
    hosts = expand(text("SLURM_STEP_NODELIST") or text("SLURM_JOB_NODELIST"))
    if not hosts:
        raise UserError(f"{values}: no SLURM_STEP_NODELIST says on which host task 0 is", fix=FIX)
    return Claim("srun", values, rank, size, number("SLURM_LOCALID", FIX), hosts, port())


def _in_step(launcher: Launcher | None) -> bool:
    """Whether the variables are those of a step of several tasks, and of this one.

    sbatch from inside a step hands the step's variables on, and the new batch script is no task of it. Raises UserError
    for a task that is not the first and has no step.
    """
    if launcher is not None and launcher.kind == "slurm":
        return whole(launcher.step) is not None
    if launcher is not None:
        return False
    step = whole(text("SLURM_STEP_ID") or text("SLURM_STEPID"))
    if step is not None and step >= FIRST_SPECIAL_STEP:
        return False
    of_job, of_step = text("SLURM_TASKS_PER_NODE"), text("SLURM_STEP_TASKS_PER_NODE")
    if of_job and of_step and of_job != of_step:
        return False
    if step is None and not text("SLURM_STEP_NUM_TASKS") and not text("SLURM_STEP_NODELIST"):
        if text("SLURM_PROCID") != "0":
            raise UserError(f"SLURM_PROCID={text('SLURM_PROCID')[:60]}: a task of no step", fix=FIX)
        return False
    return True


def port() -> int:
    """The port on which the ranks of this step meet: another one for another job, step or attempt."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    return PORTS[zlib.crc32(".".join(map(text, names)).encode()) % len(PORTS)]


def expand(listed: str) -> list[str]:
    """The hosts of a list such as n[01-03,7],m2, in its order. Raises UserError for a list that is none."""
    hosts: list[str] = []
    for entry in re.findall(r"(?:[^,\[\]]|\[[^\[\]]*\])+", listed):
        parts = re.split(r"\[([^\[\]]*)\]", entry)  # text and the inside of brackets in turns
        choices = [_numbers(part, listed) if at % 2 else [part] for at, part in enumerate(parts)]
        hosts += map("".join, itertools.islice(itertools.product(*choices), MOST_HOSTS - len(hosts)))
    if re.sub(r"\[[^\[\]]*\]", "", listed).count("[") or "]" in re.sub(r"\[[^\[\]]*\]", "", listed):
        raise UserError(f"{listed[:60]}: brackets that do not match in a list of hosts", fix="write a,b,c")
    return [host.strip() for host in hosts if host.strip()]


def _numbers(inside: str, listed: str) -> list[str]:
    """The numbers 01, 02, 03, 7 of 01-03,7."""
    numbers = []
    for part in inside.split(","):
        first, _, last = part.strip().partition("-")
        low, high = whole(first), whole(last or first)
        if low is None or high is None or not low <= high < low + MOST_HOSTS:
            raise UserError(f"{listed[:60]}: cannot be read as a list of hosts", fix="write a,b,c")
        numbers += [f"{value:0{len(first)}}" for value in range(low, high + 1)]
    return numbers


def end_time() -> float:
    """When Slurm ends this job (seconds since 1970), infinity outside of one.

    A time that is past is that of an earlier job: this process lives.
    """
    end = whole(text("SLURM_JOB_END_TIME"))
    return end if end is not None and end > time.time() else float("inf")
