"""What a run measures: metrics.jsonl, and its upload to Weights & Biases.

tracker          Tracker: called by the loop
wandb_uploader   WandbUploader: a thread that sends metrics.jsonl
account          the W&B key, entity, project and server
pictures         what W&B shows of a finished run
"""
