"""What starts ranks without torchrun: srun and mpirun. Imports no torch.

tasks        claim: which of several tasks this process is, by the launcher that started it
slurm        the step of a Slurm job, its hosts
mpi          the variables of Open MPI, MPICH, Intel MPI, MVAPICH2 and PMIx
ancestors    the processes above this one: variables may be an earlier job's, processes are not
variables    numbers in the environment; Claim, what the variables of one launcher say
"""
