"""A short bitwise run, which many tests of run directories begin with."""

from pathlib import Path

from src.run import run as run
from tests.helpers.ranks import Job, good_job, run_job


def job(small: str, folder: Path, *settings: str, ranks: int = 2, fails: bool = False) -> Job:
    """A short bitwise run on the small data set; 64 steps in 4 epochs."""
    start = run_job if fails else good_job
    chosen = ("data.name=idx", f"data.root={small}", "train.epochs=4", "train.sync=bitwise", "log.every=5")
    return start(ranks, folder, *chosen, "run.name=r", *settings)
