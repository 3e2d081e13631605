"""The ranks of the job: who they are, on which devices, and how they agree.

world        World, join
decisions    answer_of, heartbeat: how one rank's decision reaches the others
lost_ranks   LostRanks: which rank was lost first
processes    Process: the ranks' processes, seen through /proc
rendezvous   open_store: how the ranks of one attempt find each other
"""
