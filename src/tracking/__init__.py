"""What a run measures: metrics.jsonl, and its upload to Weights & Biases.

tracker          Tracker: called by the loop
wandb_uploader   WandbUploader: a thread that sends metrics.jsonl
account          as whom, and where to
pictures         what W&B shows of a finished run
"""
