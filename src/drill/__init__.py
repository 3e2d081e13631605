"""Proof that a run survives kills, stops and damage: `python -m src.drill`.

scenarios     SCENARIOS, each a function of a Drill (one test run)
faults        the training job with an injected fault
"""
