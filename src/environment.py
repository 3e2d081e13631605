"""This process's rank, as its launcher's variables say, and how many ranks this host takes. Imports no torch."""

import itertools
import os
import shutil
import subprocess
from dataclasses import dataclass

from src.errors import UserError
from src.launchers import tasks
from src.launchers.variables import Claim, number, text, whole
from src.resources import processors

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
OF_A_JOB = (*NAMES, "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_ERROR_FILE")
FIX = "start with torchrun or launch/, or unset them for one process: env -u RANK -u WORLD_SIZE ..."
MAX_DEFAULT_RANKS = 8  # ranks by the number of processors, where neither Slurm nor the user gives a number
NVIDIA_SMI_SECONDS = 60  # it takes 10 s on a host with eight GPUs whose driver is not kept loaded


@dataclass(frozen=True)
class Ranks:
    """This process's rank, how many ranks there are, and the same on this host alone.

    `local_rank` and `local_size` are None where the launcher does not say them: then the ranks ask each other. `hosts`
    are those of the ranks, the first rank's first, empty where only MASTER_ADDR names it; on `port` they meet, 0 where
    only MASTER_PORT names it. `values` are the variables that say so, for messages.
    """

    rank: int = 0
    size: int = 1
    local_rank: int | None = 0
    local_size: int | None = 1
    by_torchrun: bool = False
    values: str = ""
    hosts: tuple[str, ...] = ()
    port: int = 0
    note: str = ""


def ranks() -> Ranks:
    """The ranks by RANK, WORLD_SIZE and so on; else by srun or mpirun; else a world of one.

    Raises UserError for impossible values.
    """
    given = {name: text(name) for name in NAMES if text(name)}
    if not given:
        claim = tasks.claim()
        return _of_claim(claim) if claim is not None and claim.size > 1 else Ranks()
    if (claim := _claim_against(given)) is not None:
        return _of_claim(claim, f"{_listed(given)}: set before {claim.launcher}, for another job; not used")
    return _of_variables(given)


def _claim_against(given: dict[str, str]) -> Claim | None:
    """What srun or mpirun says, where it started all its tasks with the same RANK, which cannot be theirs.

    WORLD_SIZE=1 without torchrun is deliberate: each task is a job of its own.
    """
    try:
        claim = tasks.claim()
    except UserError:
        return None
    if claim is None or claim.size == 1 or (given.get("WORLD_SIZE") == "1" and not text("TORCHELASTIC_RUN_ID")):
        return None
    agrees = (given.get("RANK"), given.get("WORLD_SIZE")) == (str(claim.rank), str(claim.size))
    return claim if not agrees and tasks.inherited(OF_A_JOB) else None


def _of_claim(claim: Claim, note: str = "") -> Ranks:
    """The ranks by srun or mpirun. Raises UserError if nothing says where the first rank is."""
    if not claim.hosts and (note or not text("MASTER_ADDR")):
        raise UserError(
            f"{claim.values}: ranks on several hosts, and nothing says where the first one is",
            fix=f"{claim.launcher} with MASTER_ADDR= that host, or launch/node.sh on each host",
        )
    hosts = tuple(claim.hosts)
    return Ranks(claim.rank, claim.size, claim.local_rank, None, False, claim.values, hosts, claim.port, note)


def _of_variables(given: dict[str, str]) -> Ranks:
    """The ranks by torchrun's variables, whoever set them. Raises UserError for impossible values."""
    if "RANK" not in given or "WORLD_SIZE" not in given:
        missing = "WORLD_SIZE" if "RANK" in given else "RANK"
        raise UserError(f"{_listed(given)}: set, but {missing} is not", fix=FIX)
    rank, size, local_rank, local_size = (number(name, FIX) for name in NAMES)
    assert rank is not None
    assert size is not None
    if rank >= size:
        raise UserError(f"RANK={rank} WORLD_SIZE={size}: the rank must be below the world size", fix=FIX)
    most = size if local_size is None else local_size
    if not (local_rank or 0) < most <= size:
        raise UserError(f"{_listed(given)}: LOCAL_RANK < LOCAL_WORLD_SIZE <= WORLD_SIZE is not true", fix=FIX)
    if size == 1:
        return Ranks()
    by_torchrun = text("TORCHELASTIC_USE_AGENT_STORE") == "True" or text("TORCHELASTIC_RUN_ID") != ""
    return Ranks(rank, size, local_rank, local_size, by_torchrun, _listed(given))


def _listed(given: dict[str, str]) -> str:
    return " ".join(f"{name}={value[:60]}" for name, value in given.items())


def reports_mistakes() -> bool:
    """Whether this process reports a mistake that all ranks make.

    Under torchrun, which reports the others' itself, rank 0; else the first rank of each host, whose output may go to
    different places. Any rank whose own variables are impossible: perhaps no other one has this mistake.
    """
    try:
        mine = ranks()
    except UserError:
        return True
    return mine.rank == 0 or (not mine.by_torchrun and not mine.local_rank)


def ranks_per_node() -> int:
    """How many ranks a launcher starts on this host.

    Its GPUs; without GPUs RANKS_PER_NODE, else the CPUs that Slurm has allocated here, else the processors that this
    process may use, at most MAX_DEFAULT_RANKS. Raises UserError for a RANKS_PER_NODE that is no number.
    """
    if count := gpus():
        return count
    if given := text("RANKS_PER_NODE"):
        if not (asked := whole(given)):
            raise UserError(f"RANKS_PER_NODE={given}: must be a whole number of at least 1")
        return asked
    allocated = whole(text("SLURM_CPUS_ON_NODE")) if text("SLURM_JOB_ID") else None
    return allocated or min(processors(), MAX_DEFAULT_RANKS)


def gpus() -> int:
    """The GPUs that this process may use, without asking torch.

    In a Slurm job those that it has allocated on this node, else those that nvidia-smi lists and CUDA_VISIBLE_DEVICES
    does not hide. Raises UserError if nvidia-smi does not answer.
    """
    if text("SLURM_JOB_ID"):
        return whole(text("SLURM_GPUS_ON_NODE")) or 0
    if not shutil.which("nvidia-smi"):
        return 0
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"nvidia-smi: no answer within {NVIDIA_SMI_SECONDS} s",
            fix="reload the driver or reboot, or give the number of ranks",
        ) from None
    except OSError:  # not executable
        return 0
    return _visible(sum(line.startswith("GPU ") for line in done.stdout.splitlines()))


def _visible(count: int) -> int:
    """How many of so many GPUs CUDA_VISIBLE_DEVICES leaves visible: CUDA ignores what follows an invalid entry."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return count
    entries = (entry.strip() for entry in listed.split(","))
    return min(count, len(list(itertools.takewhile(lambda entry: entry and not entry.startswith("-"), entries))))
