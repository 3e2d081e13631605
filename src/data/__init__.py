"""The data set of a run, and which samples each rank takes in each step.

dataset     load: which data set, from where; DataSet
    splits      Split, Spec: the samples as tensors, and what a model must know of them
idx         read: an IDX file as a tensor
order       ShardSampler: the order of an epoch; draws: random numbers of a sample
loader      ShardedLoader: this rank's micro-batches
download    fetch, verify: files from mirrors, whole or not there
digits      write: the embedded data set, drawn with strokes
"""
