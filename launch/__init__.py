"""Launchers: each starts `-m src.train key=value ...` and restarts it while it makes progress (docs/launch.md).

local.sh             one machine
node.sh              one host of several
slurm.sbatch         a Slurm job; submit.py checks the settings and submits it
kubernetes.yaml      an Indexed Job
sweep.yaml           a W&B sweep
torchrun.py          torchrun with quiet errors and exit codes by status.json
job.py               what they all ask: directory, ranks, task of an array, verdict
"""
