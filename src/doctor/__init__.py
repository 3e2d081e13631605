"""Checks of a host before a job: `python -m src.doctor`.

examination        CHECKS, examine, report
findings           Plan, the input of a check, and Finding, its result
host_checks        software versions, GPUs, processors, shared memory, scheduler or container
environment_checks  variables, limits
network_checks     host name, interface, port, other hosts, W&B
storage_checks     data set, run's directory, free space
rehearsal          two real ranks that sum gradients
model_size         how many parameters the job's model has
"""
