"""How the ranks agree on the gradient of a global batch.

build           build_gradients: what train.sync and train.exchange ask for; local_shards
step            StepResult, rescale, Seed
ddp             DDPGradients, SingleProcess
bitwise         Bitwise: the same bits on any number of ranks
shared_memory   SharedMemory: sums on one host, without a socket
peers           Peers: which ranks of this host are alive
"""
