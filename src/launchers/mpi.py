"""The variables that MPI's launchers set for each task."""

import os
import zlib
from dataclasses import dataclass

from src.errors import UserError
from src.launchers import slurm
from src.launchers.ancestors import Launcher
from src.launchers.variables import Claim, number, text

FIX = "unset the variables of an earlier job, or start the ranks with launch/"
JOBS = ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "PMI_JOBID", "PALS_APID")  # names of one mpirun, where there are


@dataclass(frozen=True)
class Dialect:
    """The names of the four numbers; the last two may not be set."""

    rank: str
    size: str
    local_rank: str
    local_size: str


DIALECTS = (
    Dialect("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    Dialect("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
    Dialect("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),  # MPICH, Intel MPI
    Dialect("PMIX_RANK", "PMIX_SIZE", "PMIX_LOCAL_RANK", "PMIX_LOCAL_SIZE"),
)


def claim(launcher: Launcher | None) -> Claim | None:
    """This task of an mpirun; None if nothing says so. Raises UserError for variables that no mpirun sets."""
    dialect = next((each for each in DIALECTS if text(each.rank) or text(each.size)), None)
    if dialect is None:
        return None
    rank, size = number(dialect.rank, FIX), number(dialect.size, FIX)
    values = " ".join(f"{name}={text(name)}" for name in (dialect.rank, dialect.size) if text(name))
    if rank is None or size is None:
        if not rank and (size or 1) == 1:
            return None  # PMIx says no size; the first rank cannot know of others, and these report it
        raise UserError(f"{values}: one of several ranks, but {_missing(dialect)} is not set", fix=FIX)
    if rank >= size:
        raise UserError(f"{values}: the rank must be below the number of ranks", fix=FIX)
    if size == 1:
        return Claim("mpirun", values, 0, 1)
    one_host = number(dialect.local_size, FIX) == size
    hosts = ["localhost"] if one_host else slurm.expand(text("SLURM_JOB_NODELIST"))
    local_rank = number(dialect.local_rank, FIX)
    return Claim("mpirun", values, rank, size, local_rank, hosts, _port(launcher, one_host))


def _missing(dialect: Dialect) -> str:
    return dialect.size if text(dialect.rank) else dialect.rank


def _port(launcher: Launcher | None, one_host: bool) -> int:
    """The port on which the ranks meet: another one for another mpirun, where its ranks can know that."""
    job = next((f"{name}={text(name)}" for name in JOBS if text(name)), "")
    if not job:
        job = f"mpirun {launcher.pid}" if launcher is not None and one_host else f"user {os.getuid()}"
    return slurm.PORTS[zlib.crc32(job.encode()) % len(slurm.PORTS)]
