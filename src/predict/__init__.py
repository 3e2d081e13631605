"""python -m src.predict: what a run's model makes of pictures and other files.

classify   what the model makes of one file
picture    a picture, prepared as the data set's were; photograph, paper, ruled, marks: the strokes in one of a camera
"""
