"""Everything around the model: configuration, MIDI, corpora, playing, training, evaluation.

Folders lean on those after them: evaluation -> training, playing -> corpus -> midi -> config -> the modules
here. The modules here know nothing of the folders; none of this knows what is inside the model.
"""
