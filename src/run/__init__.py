"""A run's folder: what the run is, how it is, and what it has saved.

layout       names, status.json, exit codes, stop reasons; imports no torch
run          Run: the folder held by a job
checkpoint   Checkpoints; state: TrainState, what they hold; archive: one file; seal: its SHA-256
choosing     choose: which one training goes on from
requests     Requests: saves that are wanted beside the schedule
saving       Saving: a thread beside the training
progress     Progress, Speed
jsonl        Lines: a file of JSON objects; tables: what is no single number
lock         hold, holder: one job at a time
mirror       Mirror: a copy in an object store; store, manifest: what is there; bringing: the way back
provenance   what made the run
trained      load: a run's trained model
"""
