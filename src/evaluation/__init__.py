"""How good the weights are.

metrics    Metrics: what was measured, and how it is shown
measure    evaluate: the model's own sums over a split, or a rank's part of them
evaluator  Evaluator: when, on which samples and by which ranks
"""
