"""Dry runs, which leave no trace."""

import re
from pathlib import Path

from tests.helpers.ranks import Job, run_job


def settings(small: str, *more: str) -> tuple[str, ...]:
    return ("data.name=idx", f"data.root={small}", "run.name=x", *more)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below it, with its size and time."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def dry(ranks: int, folder: Path, *chosen: str) -> dict[str, str]:
    """The rows of a dry run that must succeed and leave `folder` as it is."""
    (folder / "runs").mkdir(exist_ok=True, parents=True)
    before = tree(folder)
    job = run_job(ranks, folder, "--dry-run", *chosen)
    ours = re.compile(r"(output|value)-\d+$")  # of these tests' own ranks
    seen = {name: facts for name, facts in tree(folder).items() if not ours.search(name)}
    assert seen == {name: facts for name, facts in before.items() if not ours.search(name)}, job.output
    assert not any(job.codes), job.output
    return rows(job)


def rows(job: Job) -> dict[str, str]:
    lines = [line for line in job.output.splitlines() if not line.startswith("warning")]
    return {line[:8].strip(): line[9:] for line in lines}
