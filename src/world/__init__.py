"""The ranks of the job: who they are, on which devices, and how they agree.

world        World, join
rendezvous   open_store: how the ranks of one attempt find each other
"""
