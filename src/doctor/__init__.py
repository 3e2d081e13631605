"""python -m src.doctor: checks this host, its network and its storage before a job.

host_checks, network_checks, storage_checks    the checks; each takes a Plan and returns a Finding
rehearsal                                      two ranks that add gradients as the job's will
findings                                       Plan, Finding, green, yellow, red
model_size                                     how many parameters the job's model has
"""
