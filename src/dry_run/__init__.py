"""python -m src.train --dry-run ...: what a job would do, and how long it would take. Nothing is written.

All ranks meet and build what the job builds, go back to where the run is, and make some steps in memory; nothing of
that is kept. Files that are missing are neither fetched nor made: what would be done is said.

plan        build: the parts of a job, without a file, and what it would begin with
timing      how long its steps and its evaluations take
rows        show: a row of text for each question
"""

from src.dry_run.rows import show

__all__ = ["show"]
