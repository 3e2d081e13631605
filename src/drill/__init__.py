"""python -m src.drill: breaks a scratch run in every way, and compares it with an unbroken one.

scenarios    what is done to the run
faults       the job with one fault built in
"""
