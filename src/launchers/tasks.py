"""Which of several tasks this process is, where srun or mpirun started it."""

import os

from src.errors import UserError
from src.launchers import ancestors, mpi, slurm
from src.launchers.variables import Claim

NAMES = ("SLURM_PROCID", *(name for dialect in mpi.DIALECTS for name in (dialect.rank, dialect.size)))


def claim() -> Claim | None:
    """What the launcher of this process says, None if it is one process of its own.

    The nearest launcher above this process decides; what others have left in the environment does not count. Raises
    UserError where no launcher is seen and the variables contradict each other.
    """
    if not any(name in os.environ for name in NAMES):
        return None
    launcher = ancestors.nearest()
    if launcher is not None:
        return slurm.claim(launcher) if launcher.kind == "slurm" else mpi.claim(launcher)
    of_slurm, of_mpi = slurm.claim(None), mpi.claim(None)
    if of_slurm is None or of_mpi is None:
        return of_slurm or of_mpi
    if (of_slurm.rank, of_slurm.size) == (of_mpi.rank, of_mpi.size) or of_mpi.size == 1:
        return of_slurm
    if of_slurm.size == 1:
        return of_mpi
    raise UserError(f"{of_slurm.values}, {of_mpi.values}: one of them is not this job's", fix=slurm.FIX)


def inherited(names: tuple[str, ...]) -> bool:
    """Whether the nearest launcher handed these variables to all its tasks, with the values that they have here."""
    launcher = ancestors.nearest()
    if launcher is None:
        return False
    first = ancestors.variables(launcher.first)
    return all(first.get(name) == os.environ.get(name) for name in names)
