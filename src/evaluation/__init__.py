"""How good the weights are.

metrics    Metrics: what was measured, and how it is shown
measure    evaluate: the model's own sums over a split
"""
