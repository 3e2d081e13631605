"""Checks of what a shell, a scheduler or an earlier job leaves to a process: its variables."""

import os
import socket

from src import environment
from src.doctor.findings import Finding, Plan, green, yellow
from src.errors import UserError
from src.launchers import slurm
from src.launchers.variables import text, whole


def variables(plan: Plan) -> Finding:
    """Whether the variables are this job's, and make sense: those of ranks, of Slurm, of torchrun and of OpenMP."""
    ranks = environment.ranks()  # raises UserError for impossible ones
    problems = [*_of_ranks(ranks), *_of_slurm(), *_of_launchers()]
    if problems:
        return yellow("; ".join(said for said, _ in problems), "; ".join(dict.fromkeys(fix for _, fix in problems)))
    if ranks.size > 1:
        return green(f"rank {ranks.rank} of {ranks.size} ({ranks.values})")
    return green("none that another job has left behind")


def _of_ranks(ranks: environment.Ranks) -> list[tuple[str, str]]:
    problems = [(ranks.note, "unset them")] if ranks.note else []
    if ranks.size > 1 and not ranks.hosts:
        problems.append(
            (f"{ranks.values}: a training from here waits for {ranks.size - 1} other rank(s)", environment.FIX)
        )
    return problems


def _of_slurm() -> list[tuple[str, str]]:
    """What is left of a Slurm job that is over, or that runs on other hosts."""
    if not text("SLURM_JOB_ID"):
        return []
    unset, problems = "a new shell, or unset the SLURM_ variables", []
    if whole(text("SLURM_JOB_END_TIME")) is not None and slurm.end_time() == float("inf"):
        problems.append((f"SLURM_JOB_ID={text('SLURM_JOB_ID')}: this job's time is over", unset))
    try:
        hosts = slurm.expand(text("SLURM_JOB_NODELIST"))
    except UserError as error:
        return [*problems, (error.message, unset)]
    names = {socket.gethostname(), socket.gethostname().partition(".")[0], text("SLURMD_NODENAME")}
    if hosts and not names & set(hosts):
        said = f"SLURM_JOB_ID={text('SLURM_JOB_ID')}: {socket.gethostname()} is not one of its hosts"
        problems.append((f"{said} ({text('SLURM_JOB_NODELIST')[:60]})", "srun, or launch/slurm.sbatch"))
    return problems


def _of_launchers() -> list[tuple[str, str]]:
    problems = []
    if names := sorted(name for name in os.environ if name.startswith("PET_")):
        problems.append((f"{', '.join(names)}: torchrun takes options from them", f"unset {' '.join(names)}"))
    threads = text("OMP_NUM_THREADS")
    if threads and not all(whole(part.strip()) for part in threads.split(",")):
        problems.append((f"OMP_NUM_THREADS={threads[:60]}: is no number of threads", "unset OMP_NUM_THREADS"))
    return problems
