"""The data set of a run, and which samples each rank takes in each step.

dataset     load: which data set, from where, in files of which kind; DataSet
    splits      Split, Spec: the samples as tensors, and what a model must know of them
idx         a kind of files: four IDX files; read: one as a tensor
image_folder a kind of files: pictures in a folder for each class
    class_folders   scan: the pictures in their order; left-out.txt
    conversion      convert: pictures as one mapped array; survey, filling, progress: its parts
    pixels          read: a picture's file as pixels, for predict too
importing   python -m src.data import: arrays, path_list, tables
text        a kind of files: two texts as bytes, in blocks
order       ShardSampler: the order of an epoch; draws: random numbers of a sample
loader      ShardedLoader: this rank's micro-batches
download    fetch, verify: files from mirrors, whole or not there
digits      write: the embedded data set, drawn with strokes
sums        write: the embedded text
"""
