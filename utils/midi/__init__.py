"""MIDI files in and out: events, voices and kits, notes to rolls and back, tempo and meter, sound.

Not here: folders of files (corpus) and what is played (playing). Leans on config and the modules of utils.
"""
