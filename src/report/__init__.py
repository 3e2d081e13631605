"""python -m src.report: a run on one page, or several side by side.

page       report, write: the template filled with one JSON object
following  the page of a run that goes on, written again and again
facts      what the page says of a run, as plain values; standing, curves, confusion and text are parts of them
pictures   what it shows of the model: pictures, samples of a text, the names of classes
"""
