"""python -m src.predict: what a run's model makes of pictures and other files.

picture    a picture of a digit, prepared as MNIST's were
"""
