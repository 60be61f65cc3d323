"""Folders and zips of MIDI to train on: found, read, cached, varied, described bar by bar.

Not here: batches (data_aug.py). Leans on midi and config.
"""
