"""What a rank's vote says. It travels beside the gradients, so that the ranks agree without a message of its own.

The votes of a step are added over all ranks, with train.sync=bitwise over all shards. A wish to stop counts 1; rank 0's
wish to save counts so little that it stays below 1 from all its shards together. Imports no torch.
"""

STOP = 1.0
SAVE = 2.0**-14  # there are at most 4,096 shards; the sum is exact in float32 for up to 1,024 wishes to stop


def stops(votes: float) -> bool:
    """Whether a rank wants to stop."""
    return votes >= STOP


def saves(votes: float) -> bool:
    """Whether rank 0 wants to save."""
    return votes % STOP > 0
