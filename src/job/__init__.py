"""A training job: its parts, built in order; each knows by itself what rank 0 does and what all ranks do.

building    join, prepare: meet the other ranks, build every part, go back to where the run was
parts       Parts: data, model, optimizer and gradients, which a dry run has too; nothing is written
job         Job: what the loop needs, and its questions
notes       Notes: what the ranks tell each other beside a step
ending      conclude, stopped: what a job says and writes when it ends
page        Page: report.html, at each of its ends
banner      banner: what it says when it begins
"""

from src.job.building import join, prepare
from src.job.ending import conclude, stopped
from src.job.job import Job

__all__ = ["Job", "conclude", "join", "prepare", "stopped"]
