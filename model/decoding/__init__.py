"""How drums are drawn from the model, step by step: over a cache, compiled on a CPU, captured on a GPU.

Not here: layers and heads (model). Leans on model.
"""
