"""MIDI files in and out: voices and kits, notes to rolls and back, tempo and meter, sound.

Not here: folders of files (corpus) and what is played (playing). Leans on config.
"""
