"""The data set of a run, and which samples each rank takes in each step.

dataset     load: which data set, from where, in files of which kind; DataSet
    kinds       kind_of, folder, missing: which kind of files, and where they are
    provision   provide: files that are missing, rendered here or fetched
    splits      Split, Spec: the samples as tensors, and what a model must know of them
    held_out    hold_out: some of the training samples, to choose the best weights by
    column      Column: samples that are read as a tensor where they are taken; labels: their classes
looking     look: what is there, or would be fetched or made, for --dry-run
idx         a kind of files: four IDX files; read: one as a tensor
emnist      kinds of files: EMNIST's splits
image_folder a kind of files: pictures in a folder for each class
    class_folders   scan: the pictures in their order; left-out.txt
    conversion      convert: pictures as one mapped array; survey, filling, progress: its parts
    pixels          read: a picture's file as pixels, for predict too
importing   python -m src.data import: arrays, path_list, tables
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
