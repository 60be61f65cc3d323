"""How good a model is: what it plays on a split, figures of it, baselines, goals, tables, pictures.

Not here: the command line (evaluate.py). Leans on training, playing and below.
"""
