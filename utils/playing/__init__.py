"""A request to play, from whatever door, to drums, receipt, picture and sound.

Not here: how a step is drawn (model.decoding). Leans on model, midi and config.
"""
