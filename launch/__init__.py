"""Launchers: each starts `-m src.train key=value ...` and restarts it while it makes progress (docs/launch.md).

local.sh             one machine
node.sh              one host of several
slurm.sbatch         a Slurm job; submit.py checks the settings and submits it
kubernetes.yaml      an Indexed Job
sweep.yaml           a W&B sweep
torchrun.py          torchrun with forked ranks, quiet errors and exit codes by status.json: agent.py runs it, forked.py
                     forks a rank, title.py says what ps shows of it, one_host.py is the rendezvous of one host
job.py               what they all ask: directory, ranks, task of an array, verdict
"""
