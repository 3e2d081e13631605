"""The data set of a run, and which samples each rank takes in each step.

dataset     load: which data set, from where, in files of which kind; DataSet
    splits      Split, Spec: the samples as tensors, and what a model must know of them
    column      Column: samples that are read as a tensor where they are taken; labels: their classes
idx         a kind of files: four IDX files; read: one as a tensor
emnist      kinds of files: EMNIST's splits
text        a kind of files: texts as bytes, in blocks
order       Permutation, ShardSampler: the order of an epoch; draws: random numbers of a sample
    blocks      BlockOrder: an order for data larger than memory
loader      ShardedLoader: this rank's micro-batches
    prefetch    each: computed one ahead, by a thread; paging: how much of a mapped file is read at once
download    fetch, verify: files from mirrors, whole or not there
    remembered  Remembered: checksums that were computed before
digits      write: the embedded data set, drawn with strokes
sums        write: the embedded text
"""
