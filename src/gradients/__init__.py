"""How the ranks agree on the gradient of a global batch.

build           build_gradients: what train.sync and train.exchange ask for; shards_of, local_shards
votes           what a rank wants: to stop, to save
step            StepResult, divide, in_precision, Seed
ddp             DDPGradients: torch's wrapper, with a communication hook
single          SingleProcess: a world of one, which needs none
bitwise         Bitwise: the same bits on any number of ranks
tree            Tree: what is added to what, in which order
exchange        Exchange, Local, Backend: adding what the ranks hold
shared_memory   SharedMemory: an Exchange on one host, without a socket
resident        Resident: gradients that live in shared memory
meeting         Meeting: ranks of a host wait for each other
shared_file     a file without a name that all ranks map
buffers         Buffers: what becomes of a module's buffers in a step
peers           Peers: which ranks of this host are alive
trial           the smallest share of a batch, tried before training
"""
