"""How good a model is: what it plays on a split, a registry of metrics, goals, tables, pictures; a table of
runs.

Not here: the command line (evaluate.py). Leans on training, playing and below.
"""
